"""Metrics of next-token likelihood: perplexity, bits per byte, drift and validation loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.base import Figure, Metric
from tasks.bootstrap import bootstrap_interval

if TYPE_CHECKING:
    import numpy as np

PERPLEXITY = Metric("perplexity", "lower", "per token", "perplexity of the held-out parts of the text")
BITS_PER_BYTE = Metric("bits_per_byte", "lower", "bits per byte", "perplexity made comparable between tokenizers")
REFERENCE_PERPLEXITY = Metric(
    "reference_perplexity", "lower", "per token", "perplexity of the references, given their meaning"
)
FAMILIAR_PERPLEXITY = Metric(
    "familiar_perplexity", "lower", "per token", "perplexity of general English, held out from the base's pretraining"
)
DRIFT = Metric(
    "drift",
    "lower",
    "nats per token",
    "loss on general English, tuned model minus base: above 0 it forgets, below 0 it improves",
)
VALIDATION_LOSS = Metric(
    "validation_loss", "lower", "nats per token", "loss on the validation items, without label smoothing"
)


@dataclass(frozen=True)
class Losses:
    """Summed negative log-likelihood in nats, and number of tokens, of each document; both (n,)."""

    nats: np.ndarray
    tokens: np.ndarray

    @property
    def mean(self) -> float:
        """Nats per token over all documents."""
        return float(self.nats.sum() / self.tokens.sum())


def perplexity(metric: Metric, losses: Losses, extractor: str, groups: np.ndarray | None = None) -> Figure:
    """exp of the mean nats per token; the interval resamples documents, or `groups` of them (n,)."""
    import numpy as np

    groups = np.arange(len(losses.nats)) if groups is None else groups
    nats, tokens = np.bincount(groups, losses.nats), np.bincount(groups, losses.tokens)

    def statistic(indices: np.ndarray) -> float:
        return float(np.exp(nats[indices].sum() / tokens[indices].sum()))

    low, high = bootstrap_interval(statistic, len(nats))
    return metric.figure(statistic(np.arange(len(nats))), len(nats), extractor, low, high)


def bits_per_byte(nats: np.ndarray, texts: Sequence[str], extractor: str) -> Figure:
    """Total bits over total UTF-8 bytes; `nats` of each text, (n,)."""
    import numpy as np

    sizes = np.array([len(text.encode()) for text in texts])

    def statistic(indices: np.ndarray) -> float:
        return float(nats[indices].sum() / sizes[indices].sum() / math.log(2))

    low, high = bootstrap_interval(statistic, len(nats))
    return BITS_PER_BYTE.figure(statistic(np.arange(len(nats))), len(nats), extractor, low, high)


def drift(tuned: Losses, base: Losses, extractor: str) -> Figure:
    """How much worse the tuned model predicts general English than the base, in nats per token, paired by text."""
    import numpy as np

    difference, tokens = tuned.nats - base.nats, base.tokens

    def statistic(indices: np.ndarray) -> float:
        return float(difference[indices].sum() / tokens[indices].sum())

    low, high = bootstrap_interval(statistic, len(tokens))
    return DRIFT.figure(statistic(np.arange(len(tokens))), len(tokens), extractor, low, high, base=0.0)
