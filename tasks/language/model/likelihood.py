"""Next-token likelihood: token batches with and without a prompt, the training loss, losses per document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.distributed import map_across_ranks
from tasks.language.metrics.perplexity import Losses
from tasks.language.model.attention_masks import nothing_read
from tasks.language.model.bases import LOGITS_AT_ONCE, LanguageModel
from tasks.language.model.chunked_logits import Reduction, by_chunk, fits

Row = tuple[list[int], list[int]]  # token ids of prompt and text; only the text counts in the loss

IGNORED = -100  # label of tokens that do not count in the loss
EVALUATION_BATCH = 16


def row_size(row: Row) -> int:
    """Tokens of a prompt with its text."""
    return len(row[0]) + len(row[1])


@dataclass(frozen=True)
class TokenBatch:
    """Token ids and labels, each (n, length), padded on the right; labels are IGNORED outside the text.

    There is no mask: what precedes the padding cannot see it, since attention is causal. `read` is the number of tokens
    that are not padding. `positions` (n, length) are given where rows hold several items (`packing`).
    """

    tokens: Tensor
    labels: Tensor
    read: int
    positions: Tensor | None = None

    def to(self, device: torch.device) -> TokenBatch:
        positions = None if self.positions is None else self.positions.to(device)
        return TokenBatch(self.tokens.to(device), self.labels.to(device), self.read, positions)


def padded(rows: Sequence[Row], device: torch.device) -> TokenBatch:
    """Combine rows into one batch."""
    sizes = [len(prompt) + len(text) for prompt, text in rows]
    tokens = torch.zeros(len(rows), max(sizes), dtype=torch.long)
    labels = torch.full_like(tokens, IGNORED)
    for i, (prompt, text) in enumerate(rows):
        tokens[i, : sizes[i]] = torch.tensor(prompt + text)
        labels[i, len(prompt) : sizes[i]] = torch.tensor(text)
    return TokenBatch(tokens, labels, sum(sizes)).to(device)


def cross_entropy(
    model: torch.nn.Module, batch: TokenBatch, smoothing: float = 0.0, logits_at_once: int = LOGITS_AT_ONCE
) -> Tensor:
    """Mean over the target tokens, in nats; label smoothing as in Szegedy et al. 2016, section 7.

    More than `logits_at_once` logits are computed in chunks, whose sum differs by rounding alone.
    """
    targets, options = batch.labels[:, 1:], {"ignore_index": IGNORED, "label_smoothing": smoothing}
    if fits(model, targets, logits_at_once):
        return F.cross_entropy(next_token_logits(model, batch).flatten(0, 1), targets.flatten(), **options)

    def total(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, **options, reduction="sum")

    totals = by_chunk(model, batch.tokens, targets, total, logits_at_once, batch.positions)
    return torch.stack(totals).sum() / (targets != IGNORED).sum()


def target_tokens(batch: TokenBatch) -> int:
    """Denominator of the mean in `cross_entropy`."""
    return int((batch.labels[:, 1:] != IGNORED).sum())


def next_token_logits(model: torch.nn.Module, batch: TokenBatch) -> Tensor:
    """Logits (n, length - 1, vocabulary) in fp32 of all positions that predict a label."""
    with nothing_read(packed=batch.positions is not None):
        return model(input_ids=batch.tokens, position_ids=batch.positions, use_cache=False).logits[:, :-1].float()


@torch.no_grad()
def losses(base: LanguageModel, rows: Sequence[Row]) -> Losses:
    """The loss of each row's text given its prompt."""
    order = sorted(range(len(rows)), key=lambda i: row_size(rows[i]))
    batches = [order[start : start + EVALUATION_BATCH] for start in range(0, len(rows), EVALUATION_BATCH)]
    nats, tokens = np.zeros(len(rows)), np.zeros(len(rows), int)
    by_batch = map_across_ranks(batches, lambda indices: _batch_losses(base, [rows[i] for i in indices]))
    for indices, (batch_nats, batch_tokens) in zip(batches, by_batch, strict=True):
        nats[indices], tokens[indices] = batch_nats, batch_tokens
    return Losses(nats, tokens)


def _batch_losses(base: LanguageModel, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Nats and tokens of each row, (n,)."""
    with base.backbone.computing():
        nats, tokens = row_losses(base.model, padded(rows, base.device), base.logits_at_once)
    return nats.cpu().numpy(), tokens.cpu().numpy()


def row_losses(
    model: torch.nn.Module, batch: TokenBatch, logits_at_once: int = LOGITS_AT_ONCE
) -> tuple[Tensor, Tensor]:
    """Nats and target tokens of each row, (n,)."""
    targets = batch.labels[:, 1:]
    if fits(model, targets, logits_at_once):
        logits = next_token_logits(model, batch).transpose(1, 2)
        each = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
    else:
        each = per_token(model, batch, _nats, logits_at_once)
    return each.sum(dim=1), (targets != IGNORED).sum(dim=1)


def per_token(
    model: torch.nn.Module, batch: TokenBatch, reduce: Reduction, logits_at_once: int = LOGITS_AT_ONCE
) -> Tensor:
    """`reduce` of the logits of each position that predicts a label, (n, length - 1, ...); see `by_chunk`."""
    targets = batch.labels[:, 1:]
    if fits(model, targets, logits_at_once):
        each = reduce(next_token_logits(model, batch).flatten(0, 1), targets.flatten())
    else:
        each = torch.cat(by_chunk(model, batch.tokens, targets, reduce, logits_at_once, batch.positions))
    return each.unflatten(0, targets.shape)


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")


def document_rows(base: LanguageModel, texts: Sequence[str], max_length: int) -> list[Row]:
    """One row per text: its first `max_length` tokens."""
    rows = [base.document_ids(text)[:max_length] for text in texts]
    return [(row[:1], row[1:]) for row in rows]


def windows(tokens: list[int], length: int) -> list[Row]:
    """Cut a text into rows of `length` tokens that predict each token once; the first of a row is only context."""
    starts = range(0, len(tokens) - 1, length - 1)
    return [(tokens[start : start + 1], tokens[start + 1 : start + length]) for start in starts]
