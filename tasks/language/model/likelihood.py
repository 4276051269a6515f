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
from tasks.language.model.bases import LanguageModel

Row = tuple[list[int], list[int]]  # token ids of prompt and text; only the text counts in the loss

IGNORED = -100  # label of tokens that do not count in the loss
EVALUATION_BATCH = 16


@dataclass(frozen=True)
class TokenBatch:
    """Token ids, mask and labels, each (n, length), padded on the right; labels are IGNORED outside the text.

    Without padding the mask is None: attention is causal anyway, and the model can skip inspecting a mask.
    `positions` (n, length) are given where rows hold several items (`packing`), and `read` is then the number of tokens
    that are not padding.
    """

    tokens: Tensor
    mask: Tensor | None
    labels: Tensor
    positions: Tensor | None = None
    read: int | None = None


def padded(rows: Sequence[Row], device: torch.device) -> TokenBatch:
    """Combine rows into one batch."""
    length = max(len(prompt) + len(text) for prompt, text in rows)
    tokens = torch.zeros(len(rows), length, dtype=torch.long)
    mask, labels = torch.zeros_like(tokens), torch.full_like(tokens, IGNORED)
    for i, (prompt, text) in enumerate(rows):
        end = len(prompt) + len(text)
        tokens[i, :end] = torch.tensor(prompt + text)
        mask[i, :end] = 1
        labels[i, len(prompt) : end] = torch.tensor(text)
    is_padded = any(len(prompt) + len(text) < length for prompt, text in rows)
    return TokenBatch(tokens.to(device), mask.to(device) if is_padded else None, labels.to(device))


def cross_entropy(model: torch.nn.Module, batch: TokenBatch, smoothing: float = 0.0) -> Tensor:
    """Mean over the target tokens, in nats; label smoothing as in Szegedy et al. 2016, section 7."""
    logits, targets = next_token_logits(model, batch)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing)


def target_tokens(batch: TokenBatch) -> int:
    """Denominator of the mean in `cross_entropy`."""
    return int((batch.labels[:, 1:] != IGNORED).sum())


def input_tokens(batch: TokenBatch) -> int:
    """Number of tokens that the model reads, padding excluded."""
    if batch.read is not None:
        return batch.read
    return batch.tokens.numel() if batch.mask is None else int(batch.mask.sum())


def next_token_logits(model: torch.nn.Module, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Logits (n, length - 1, vocabulary) in fp32 and the labels that they predict."""
    positions = {} if batch.positions is None else {"position_ids": batch.positions}
    output = model(input_ids=batch.tokens, attention_mask=batch.mask, use_cache=False, **positions)
    return output.logits[:, :-1].float(), batch.labels[:, 1:]


@torch.no_grad()
def losses(base: LanguageModel, rows: Sequence[Row]) -> Losses:
    """The loss of each row's text given its prompt."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    batches = [order[start : start + EVALUATION_BATCH] for start in range(0, len(rows), EVALUATION_BATCH)]
    nats, tokens = np.zeros(len(rows)), np.zeros(len(rows), int)
    by_batch = map_across_ranks(batches, lambda indices: _batch_losses(base, [rows[i] for i in indices]))
    for indices, (batch_nats, batch_tokens) in zip(batches, by_batch, strict=True):
        nats[indices], tokens[indices] = batch_nats, batch_tokens
    return Losses(nats, tokens)


def _batch_losses(base: LanguageModel, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Nats and tokens of each row, (n,)."""
    logits, targets = next_token_logits(base.model, padded(rows, base.device))
    each = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
    return each.sum(dim=1).cpu().numpy(), (targets != IGNORED).sum(dim=1).cpu().numpy()


def document_rows(base: LanguageModel, texts: Sequence[str], max_length: int) -> list[Row]:
    """One row per text: its first `max_length` tokens."""
    rows = [base.document_ids(text)[:max_length] for text in texts]
    return [(row[:1], row[1:]) for row in rows]


def windows(tokens: list[int], length: int) -> list[Row]:
    """Cut a text into rows of `length` tokens that predict each token once; the first of a row is only context."""
    starts = range(0, len(tokens) - 1, length - 1)
    return [(tokens[start : start + 1], tokens[start + 1 : start + length]) for start in starts]
