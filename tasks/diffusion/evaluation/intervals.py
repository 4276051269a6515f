"""Figures with 95 % intervals: means over pictures, and distances between two sets of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from tasks.base import Figure

GROUPS = 10  # of the jackknife


def mean_figure(
    values: np.ndarray, unit: str, extractor: str, prompts: Sequence[str] | None = None, **references: Any
) -> Figure:
    """The mean of values (n,), with the bounds of `mean_interval`."""
    low, high = mean_interval(values, unit, prompts)
    return Figure(float(values.mean()), unit, len(values), extractor, low, high, **references)


def mean_interval(values: np.ndarray, unit: str, prompts: Sequence[str] | None = None) -> tuple[float, float]:
    """A 95 % t interval of the mean of values (n,), which for a share is clipped to 0 to 1."""
    low = high = float(values.mean())
    error, df = mean_error(values, prompts)
    if error > 0:
        low, high = stats.t.interval(0.95, df, loc=low, scale=error)
    if unit == "share":
        low, high = max(low, 0.0), min(high, 1.0)
    return float(low), float(high)


def mean_error(values: np.ndarray, prompts: Sequence[str] | None = None) -> tuple[float, int]:
    """The standard error of the mean of values (n,), 0 for one value, and its degrees of freedom.

    Pictures of one of the `prompts` (n,) are not independent: the standard error is cluster-robust (Liang & Zeger
    1986), with the number of distinct prompts less 1 as degrees of freedom. If all prompts differ, that is the ordinary
    interval; if all are the same, the interval is over pictures of that one prompt.
    """
    n = len(values)
    if n < 2 or values.std() == 0:
        return 0.0, n - 1
    clusters = np.unique(prompts, return_inverse=True)[1] if prompts is not None else np.arange(n)
    if clusters.max() == 0:
        clusters = np.arange(n)
    count = int(clusters.max()) + 1
    sums = np.bincount(clusters, values - float(values.mean()))
    return float(np.sqrt(count / (count - 1) * np.square(sums).sum()) / n), count - 1


def without_groups(distance: Callable[[Tensor, Tensor], float], first: Tensor, second: Tensor) -> np.ndarray:
    """The distance of two sets of pictures without each of ten groups of both, (10,), for `jackknife_error`."""
    group = torch.arange(max(len(first), len(second))) % GROUPS
    left_out = [distance(first[group[: len(first)] != g], second[group[: len(second)] != g]) for g in range(GROUPS)]
    return np.array(left_out)


def jackknife_error(left_out: np.ndarray) -> float:
    """The standard error by the delete-a-group jackknife (Shao & Tu 1995, section 2.3)."""
    return float(np.sqrt((GROUPS - 1) / GROUPS * np.square(left_out - np.mean(left_out)).sum()))


def jackknife_interval(value: float, left_out: np.ndarray) -> tuple[float, float]:
    """A normal 95 % interval with the jackknife's standard error."""
    error = jackknife_error(left_out)
    return value - 1.96 * error, value + 1.96 * error


def derangement(count: int) -> np.ndarray:
    """A fixed permutation of `count` items that leaves no item in place (one cycle)."""
    order = np.random.default_rng(0).permutation(count)
    shuffled = np.empty(count, int)
    shuffled[order] = np.roll(order, 1)
    return shuffled
