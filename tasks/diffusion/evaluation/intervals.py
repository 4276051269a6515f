"""Figures with 95 % intervals: means over pictures, and distances between two sets of pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from tasks.base import Figure

GROUPS = 10  # of the jackknife


def mean_figure(values: np.ndarray, unit: str, extractor: str, **references: float) -> Figure:
    """The mean of values (n,) with a 95 % t interval."""
    n, mean = len(values), float(values.mean())
    low = high = mean
    if n > 1 and values.std() > 0:
        low, high = stats.t.interval(0.95, n - 1, loc=mean, scale=stats.sem(values))
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
