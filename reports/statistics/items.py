"""Differences between two trained models over the items that both were evaluated on: paired, by scipy and numpy.

This noise says whether other test items would give the same result, not whether training again would (`seeds`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reports.statistics.seeds import LEVEL, Estimate

RESAMPLES = 9999
TAILS = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]  # per cent

Score = Callable[[np.ndarray], np.ndarray]  # corpus scores (m,) from sums of per-item statistics (m, k)


@dataclass(frozen=True)
class Difference:
    """First minus second, with its 95 % interval (uncorrected) and two-sided p-value."""

    value: float
    low: float
    high: float
    p: float


def paired_on_items(
    first: ArrayLike, second: ArrayLike, clusters: ArrayLike | None = None, seed: int = 0
) -> Difference | None:
    """The mean difference over shared items (n,); None if fewer than two pairs are finite.

    A percentile bootstrap over the items. If items share `clusters` (n,), such as their prompt, they are not
    independent: then Student's t with the cluster-robust standard error, whose degrees of freedom are the clusters
    less one. Resampling a handful of clusters would give an interval that is too short.
    """
    differences = np.asarray(first, float) - np.asarray(second, float)
    finite = np.isfinite(differences)
    differences = differences[finite]
    if len(differences) < 2:
        return None
    value = float(differences.mean())
    if np.ptp(differences) == 0:
        return Difference(value, value, value, 1.0 if value == 0 else 2 / (RESAMPLES + 1))
    if clusters is not None:
        members = np.unique(np.asarray(clusters)[finite], return_inverse=True)[1]
        count = int(members.max()) + 1
        if 1 < count < len(differences):
            sums = np.bincount(members, differences - value)
            error = np.sqrt(count / (count - 1) * np.square(sums).sum()) / len(differences)
            found = Estimate(value, float(error), count - 1)
            return Difference(value, *found.interval, found.p)
    return paired_on_scores(lambda sums: sums[:, 0] / len(differences), differences[:, None], None, seed)


def paired_on_scores(score: Score, first: ArrayLike, second: ArrayLike | None, seed: int = 0) -> Difference:
    """The difference of a corpus score, which is recomputed for every resample of the items (Koehn 2004, section 4).

    `first` and `second` hold the statistics (n, k) of the same n items, whose sums the score is computed from; without
    `second` the score is a difference already. The p-value is the smallest level whose percentile interval excludes
    zero (Efron and Tibshirani 1993, section 15.4).
    """
    statistics = [np.asarray(part, float) for part in (first, second) if part is not None]
    n, rng = len(statistics[0]), np.random.default_rng(seed)

    def differences(weights: np.ndarray) -> np.ndarray:
        scores = [score(weights @ part) for part in statistics]
        return scores[0] - scores[1] if len(scores) == 2 else scores[0]

    value = float(differences(np.ones((1, n)))[0])
    size = max(1, 2_000_000 // n)  # limits memory to about 16 MB
    drawn = [min(size, RESAMPLES - start) for start in range(0, RESAMPLES, size)]
    resampled = np.concatenate([differences(rng.multinomial(n, np.full(n, 1 / n), m).astype(float)) for m in drawn])
    low, high = np.percentile(resampled, TAILS)
    beyond = min((resampled <= 0).sum(), (resampled >= 0).sum())
    return Difference(value, float(low), float(high), min(1.0, 2 * (beyond + 1) / (RESAMPLES + 1)))
