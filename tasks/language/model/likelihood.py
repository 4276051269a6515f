"""Next-token likelihood: batches with and without a prompt, losses a document, perplexity and drift as figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.base import Figure
from tasks.distributed import map_across_ranks
from tasks.language.metrics.intervals import interval
from tasks.language.model.bases import BUNDLED, LanguageModel

Row = tuple[list[int], list[int]]  # prompt and text; the loss counts the text

IGNORED = -100  # the label of tokens that no loss counts
EVALUATION_BATCH = 16


@dataclass(frozen=True)
class TokenBatch:
    """Token ids, mask and labels, each (n, length), padded on the right; labels are IGNORED outside the text.

    Without padding the mask is None: the attention is causal, and the model need not look into a mask to know it.
    """

    tokens: Tensor
    mask: Tensor | None
    labels: Tensor


@dataclass(frozen=True)
class Losses:
    """Summed negative log-likelihood in nats and the number of tokens, a document each, (n,)."""

    nats: np.ndarray
    tokens: np.ndarray

    def as_tensors(self) -> dict[str, Tensor]:
        """What an evaluation keeps of the losses on familiar text."""
        return {"familiar_nats": torch.from_numpy(self.nats), "familiar_tokens": torch.from_numpy(self.tokens)}

    @classmethod
    def from_tensors(cls, kept: Mapping[str, Tensor]) -> Losses:
        return cls(kept["familiar_nats"].numpy(), kept["familiar_tokens"].numpy())


def padded(rows: Sequence[Row], device: torch.device) -> TokenBatch:
    """Rows of (prompt ids, text ids) as one batch; the loss counts the text alone."""
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
    """Mean over the labelled tokens, in nats; label smoothing as in Szegedy et al. 2016, section 7."""
    logits, targets = _logits(model, batch)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing)


def predicted_tokens(batch: TokenBatch) -> int:
    """How many tokens the mean of `cross_entropy` is taken over."""
    return int((batch.labels[:, 1:] != IGNORED).sum())


def read_tokens(batch: TokenBatch) -> int:
    """How many tokens the model reads, without padding."""
    return batch.tokens.numel() if batch.mask is None else int(batch.mask.sum())


def _logits(model: torch.nn.Module, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Logits (n, length - 1, vocabulary) in fp32 and the labels that they predict."""
    output = model(input_ids=batch.tokens, attention_mask=batch.mask, use_cache=False)
    return output.logits[:, :-1].float(), batch.labels[:, 1:]


@torch.no_grad()
def losses(base: LanguageModel, rows: Sequence[Row]) -> Losses:
    """The loss of each row's text given its prompt."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    batches = [order[start : start + EVALUATION_BATCH] for start in range(0, len(rows), EVALUATION_BATCH)]
    nats, tokens = np.zeros(len(rows)), np.zeros(len(rows), int)
    found = map_across_ranks(batches, lambda chosen: _batch_losses(base, [rows[i] for i in chosen]))
    for chosen, (batch_nats, batch_tokens) in zip(batches, found, strict=True):
        nats[chosen], tokens[chosen] = batch_nats, batch_tokens
    return Losses(nats, tokens)


def _batch_losses(base: LanguageModel, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Nats and tokens of each row, (n,)."""
    logits, targets = _logits(base.model, padded(rows, base.device))
    each = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
    return each.sum(dim=1).cpu().numpy(), (targets != IGNORED).sum(dim=1).cpu().numpy()


def document_rows(base: LanguageModel, texts: Sequence[str], maximal: int) -> list[Row]:
    """Each text's first `maximal` tokens as a row."""
    rows = [base.document_ids(text)[:maximal] for text in texts]
    return [(row[:1], row[1:]) for row in rows]


def windows(tokens: list[int], length: int) -> list[Row]:
    """A text's tokens cut in rows of `length`, each predicted once (the first of a row only conditions)."""
    starts = range(0, len(tokens) - 1, length - 1)
    return [(tokens[start : start + 1], tokens[start + 1 : start + length]) for start in starts]


def perplexity(found: Losses, extractor: str, groups: np.ndarray | None = None) -> Figure:
    """exp of the mean nats a token, with an interval over documents (or over `groups` of them)."""
    groups = np.arange(len(found.nats)) if groups is None else groups
    nats, tokens = np.bincount(groups, found.nats), np.bincount(groups, found.tokens)

    def statistic(chosen: np.ndarray) -> float:
        return float(np.exp(nats[chosen].sum() / tokens[chosen].sum()))

    low, high = interval(statistic, len(nats))
    value = statistic(np.arange(len(nats)))
    return Figure(value, "per token", len(nats), extractor, low, high)


def familiar_texts(count: int) -> list[str]:
    """Held-out text of the kinds that `gpt-mini` was pretrained on, `count` of each: for any base, general English."""
    held_out = json.loads((BUNDLED / "held_out.json").read_text())
    return [text for name in sorted(held_out) for text in held_out[name][:count]]


def drift(tuned: Losses, base: Losses, extractor: str) -> Figure:
    """How much worse the adapted model predicts familiar text than the base does, in nats a token, paired by text."""
    difference, tokens = tuned.nats - base.nats, base.tokens

    def statistic(chosen: np.ndarray) -> float:
        return float(difference[chosen].sum() / tokens[chosen].sum())

    low, high = interval(statistic, len(tokens))
    return Figure(statistic(np.arange(len(tokens))), "nats per token", len(tokens), extractor, low, high, base=0.0)
