"""Means with intervals, differences with p-values, and the correction for multiple comparisons; built on scipy.

There are two kinds of noise: between seeds (would training again give the same result?) and between items (would other
test items?). Only the first can show that one method beats another; the second compares two trained models.
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
BOOTSTRAP_FROM = 8  # seeds; with fewer, a bootstrap interval is far too short (with 3 seeds it covers about 75 %)
RESAMPLES = 9999


@dataclass(frozen=True)
class Mean:
    """A mean over seeds; `low` and `high` bound a 95 % interval computed by method `how`, or are None."""

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
    """The mean of one value per seed, with the best interval that the number of seeds allows.

    With `BOOTSTRAP_FROM` seeds or more, the BCa bootstrap (Efron 1987). With 2 or more, Student's t, whose width
    reflects how little 2 or 3 seeds tell. With one seed the noise between seeds is unknown: the interval is that over
    the items of the run (`items`), if there is one, and `how` says so.
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
    """Welch's test (1947) of two groups with one value per seed; None if the seeds cannot tell.

    They cannot if either group has one seed, or if neither group varies at all (the seed has no effect).
    """
    if min(len(first), len(second)) < 2 or not (_varies(first) or _varies(second)):
        return None
    from scipy import stats

    with catch_warnings(category=RuntimeWarning, action="ignore"):  # one group does not vary
        test: Any = stats.ttest_ind(first, second, equal_var=False)  # scipy's annotation lacks confidence_interval
    low, high = test.confidence_interval(LEVEL)
    return Difference(float(np.mean(first) - np.mean(second)), float(low), float(high), float(test.pvalue))


def _varies(values: Sequence[float]) -> bool:
    """Whether values differ by more than rounding of a mean."""
    return bool(np.ptp(values) > 1e-12 * np.abs(values).max())


def paired_on_items(first: ArrayLike, second: ArrayLike, seed: int = 0) -> Difference | None:
    """Percentile bootstrap of the mean difference over shared items; None if fewer than two pairs are finite.

    The p-value is the smallest level whose percentile interval excludes zero (Efron and Tibshirani 1993, 15.4).
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
        batch=max(1, 2_000_000 // len(values)),  # limits memory to about 16 MB
    )
    interval = result.confidence_interval
    return float(interval.low), float(interval.high), result.bootstrap_distribution


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values (1979), which control the probability of any false positive.

    None marks a comparison that could not be made; it is not counted.
    """
    known = [i for i, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: p_values[i] or 0.0)):
        largest = max(largest, min(1.0, (len(known) - rank) * (p_values[i] or 0.0)))
        adjusted[i] = largest
    return adjusted


def decimals(value: float, low: float | None = None, high: float | None = None) -> int:
    """Decimal places that show two digits of the interval's half-width, or four digits of a value without one."""
    spread = (high - low) / 2 if low is not None and high is not None and high > low else abs(value) / 100
    return 0 if spread == 0 else max(0, min(8, 1 - math.floor(math.log10(spread))))
