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
    """The mean of values (n,) with a 95 % t interval, which for a share is clipped to 0 to 1.

    Pictures of one of the `prompts` (n,) are not independent: the standard error is cluster-robust (Liang & Zeger
    1986), with the number of distinct prompts less 1 as degrees of freedom. If all prompts differ, that is the ordinary
    interval; if all are the same, the interval is over pictures of that one prompt.
    """
    n, mean = len(values), float(values.mean())
    low = high = mean
    if n > 1 and values.std() > 0:
        clusters = np.unique(prompts, return_inverse=True)[1] if prompts is not None else np.arange(n)
        if clusters.max() == 0:
            clusters = np.arange(n)
        count = int(clusters.max()) + 1
        sums = np.bincount(clusters, values - mean)
        error = np.sqrt(count / (count - 1) * np.square(sums).sum()) / n
        low, high = stats.t.interval(0.95, count - 1, loc=mean, scale=error) if error > 0 else (mean, mean)
    if unit == "share":
        low, high = max(low, 0.0), min(high, 1.0)
    return Figure(mean, unit, n, extractor, float(low), float(high), **references)


def jackknife(distance: Callable[[Tensor, Tensor], float], first: Tensor, second: Tensor) -> tuple[float, float]:
    """A normal 95 % interval by the delete-a-group jackknife over both sets (Shao & Tu 1995, section 2.3)."""
    value = distance(first, second)
    group = torch.arange(max(len(first), len(second))) % GROUPS
    left_out = [distance(first[group[: len(first)] != g], second[group[: len(second)] != g]) for g in range(GROUPS)]
    spread = np.sqrt((GROUPS - 1) / GROUPS * np.square(np.array(left_out) - np.mean(left_out)).sum())
    return value - 1.96 * float(spread), value + 1.96 * float(spread)


def derangement(count: int) -> np.ndarray:
    """A fixed permutation of `count` items that leaves no item in place (one cycle)."""
    order = np.random.default_rng(0).permutation(count)
    shuffled = np.empty(count, int)
    shuffled[order] = np.roll(order, 1)
    return shuffled
