"""Means with intervals, differences with p-values, and the correction for many of them; on scipy.

Two kinds of noise are told apart: between seeds (would training again come out the same?) and between items (would
other test items?). Only the first says whether one method beats another; the second compares two trained models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from warnings import catch_warnings

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95
BOOTSTRAP_FROM = 8  # seeds; below it a bootstrap interval is far too short (3 seeds: it covers about 75 %, not 95 %)
RESAMPLES = 9999


@dataclass(frozen=True)
class Mean:
    """A mean over seeds; `low` and `high` bound a 95 % interval made in the way that `how` says, or are None."""

    value: float
    n: int  # seeds
    low: float | None = None
    high: float | None = None
    how: Literal["bootstrap over seeds", "t over seeds", "items of one run"] | None = None


@dataclass(frozen=True)
class Difference:
    """First minus second, with its 95 % interval (uncorrected) and two-sided p-value."""

    value: float
    low: float
    high: float
    p: float


def mean_over_seeds(values: Sequence[float], items: tuple[float, float] | None = None) -> Mean:
    """The mean of one value a seed, with as much of an interval as the number of seeds can carry.

    From `BOOTSTRAP_FROM` seeds on the BCa bootstrap (Efron 1987); from 2 on Student's t, which is wide because 2 or 3
    seeds say little; with one seed nothing is known of the noise between seeds, and the interval is that of the run's
    own items (`items`), if it has one, named as such.
    """
    n, value = len(values), float(np.mean(values))
    if n == 1:
        low, high = items or (None, None)
        return Mean(value, 1, low, high, "items of one run" if items else None)
    if not _varies(values):
        return Mean(value, n, value, value, "t over seeds")
    if n >= BOOTSTRAP_FROM:
        low, high = _bootstrap(np.asarray(values, float), "BCa", seed=0)[:2]
        return Mean(value, n, low, high, "bootstrap over seeds")
    from scipy import stats

    low, high = stats.t.interval(LEVEL, n - 1, loc=value, scale=stats.sem(values))
    return Mean(value, n, float(low), float(high), "t over seeds")


def between_seeds(first: Sequence[float], second: Sequence[float]) -> Difference | None:
    """Welch's test (1947) of two arms, one value a seed; None where the seeds cannot tell.

    They cannot with one seed in either arm, nor where neither arm varies at all (seeds that change nothing).
    """
    if min(len(first), len(second)) < 2 or not (_varies(first) or _varies(second)):
        return None
    from scipy import stats

    with catch_warnings(category=RuntimeWarning, action="ignore"):  # of one arm that does not vary
        test: Any = stats.ttest_ind(first, second, equal_var=False)  # its type says too little
    low, high = test.confidence_interval(LEVEL)
    return Difference(float(np.mean(first) - np.mean(second)), float(low), float(high), float(test.pvalue))


def _varies(values: Sequence[float]) -> bool:
    """Whether values differ by more than the rounding of a mean."""
    return bool(np.ptp(values) > 1e-12 * np.abs(values).max())


def paired_on_items(first: ArrayLike, second: ArrayLike, seed: int = 0) -> Difference | None:
    """Percentile bootstrap of the mean difference over shared items; None where fewer than two pairs are finite.

    The p-value is the smallest at which the percentile interval leaves out zero (Efron and Tibshirani 1993, 15.4).
    """
    differences = np.asarray(first, float) - np.asarray(second, float)
    differences = differences[np.isfinite(differences)]
    if len(differences) < 2:
        return None
    value = float(differences.mean())
    if np.ptp(differences) == 0:
        return Difference(value, value, value, 1.0 if value == 0 else 2 / (RESAMPLES + 1))
    low, high, means = _bootstrap(differences, "percentile", seed)
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    return Difference(value, low, high, min(1.0, 2 * (beyond + 1) / (RESAMPLES + 1)))


def _bootstrap(values: np.ndarray, method: str, seed: int) -> tuple[float, float, np.ndarray]:
    """Interval bounds and the resampled means of `values`."""
    from scipy import stats

    result = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        method=method,
        rng=np.random.default_rng(seed),
        batch=max(1, 2_000_000 // len(values)),  # bounds the memory at some 16 MB
    )
    interval = result.confidence_interval
    return float(interval.low), float(interval.high), result.bootstrap_distribution


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values (1979), which keep the chance of any false alarm below the level.

    None stands for a comparison that could not be made, and is not counted.
    """
    known = [i for i, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: p_values[i] or 0.0)):
        largest = max(largest, min(1.0, (len(known) - rank) * (p_values[i] or 0.0)))
        adjusted[i] = largest
    return adjusted


def decimals(value: float, low: float | None = None, high: float | None = None) -> int:
    """Places after the point that show two digits of the interval, or four of a value that has none."""
    spread = (high - low) / 2 if low is not None and high is not None and high > low else abs(value) / 100
    return 0 if spread == 0 else max(0, min(8, 1 - math.floor(math.log10(spread))))
