"""Means and differences over seeds, with intervals and p-values of Student's t; built on scipy.

Values are a matrix (n, r): one row per training seed, one column per evaluation seed (a single column if the evaluation
is not repeated). All rows share their evaluation seeds, so the two effects are crossed. Only noise between training
seeds can show that one method beats another; noise between items compares two trained models (`items`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and the degrees of freedom of that error."""

    value: float
    error: float
    df: float

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval."""
        from scipy.special import stdtrit

        margin = float(stdtrit(self.df, (1 + LEVEL) / 2)) * self.error
        return self.value - margin, self.value + margin

    @property
    def p(self) -> float:
        """Two-sided p-value of the hypothesis that the true value is 0."""
        return min(1.0, 2 * min(self.p_not_above, 1 - self.p_not_above))

    @property
    def p_not_above(self) -> float:
        """One-sided p-value of the hypothesis that the true value is at most 0."""
        from scipy.special import stdtr

        return float(stdtr(self.df, -self.value / self.error))


@dataclass(frozen=True)
class Mean:
    """A mean over seeds; `low` and `high` bound a 95 % interval computed by method `how`, or are None."""

    value: float
    n: int  # training seeds
    low: float | None = None
    high: float | None = None
    how: Literal["t over seeds", "t over both seeds", "items of one run"] | None = None


@dataclass(frozen=True)
class MeanSquares:
    """Mean squares of a two-way analysis of variance without replication, and their degrees of freedom.

    Expected values (Searle, Casella and McCulloch 1992, section 4.7), r evaluations of n trainings: of `training`
    r var(training) + var(interaction), of `evaluation` n var(evaluation) + var(interaction), of `interaction`
    var(interaction).
    """

    n: int
    r: int
    training: float
    evaluation: float
    interaction: float

    @classmethod
    def of(cls, values: np.ndarray) -> MeanSquares:
        (n, r), mean = values.shape, values.mean()
        rows, columns = values.mean(1), values.mean(0)
        rest = values - rows[:, None] - columns + mean
        squares = (r * (rows - mean) ** 2).sum(), (n * (columns - mean) ** 2).sum(), (rest**2).sum()
        dfs = n - 1, r - 1, (n - 1) * (r - 1)
        return cls(n, r, *(float(square / df) if df else 0.0 for square, df in zip(squares, dfs, strict=True)))


def mean_over_seeds(
    values: ArrayLike, items: tuple[float, float] | None = None, bounds: tuple[float, float] | None = None
) -> Mean:
    """The mean of values (n, r) or (n,), with a 95 % interval that no number of seeds makes too short.

    From 2 training seeds on, Student's t, whose width reflects how little 2 or 3 seeds tell. With one, the noise
    between seeds is unknown: the interval is that over the items of the run (`items`), if there is one, and `how` says
    so. `bounds` are the metric's possible values, to which the interval is clipped.
    """
    values = _matrix(values)
    n, value = len(values), float(values.mean())
    if n == 1:
        low, high = clipped(*(items or (None, None)), bounds)
        return Mean(value, 1, low, high, "items of one run" if items else None)
    low, high = clipped(*estimate(values).interval, bounds)
    return Mean(value, n, low, high, "t over seeds" if values.shape[1] == 1 else "t over both seeds")


def clipped(
    low: float | None, high: float | None, bounds: tuple[float, float] | None
) -> tuple[float | None, float | None]:
    """The interval within the metric's possible values."""
    if low is None or high is None or bounds is None:
        return low, high
    return max(low, bounds[0]), min(high, bounds[1])


def estimate(values: ArrayLike) -> Estimate:
    """The mean of values (n, r), n > 1, as an estimate for all training and all evaluation seeds.

    Its variance is (training + evaluation - interaction) / (n r) in mean squares, none below the interaction's, with
    Satterthwaite's degrees of freedom (1946). With r = 1 this is the standard error of the mean and n - 1.
    """
    values = _matrix(values)
    if not _varies(values):
        return Estimate(float(values.mean()), 0.0, len(values) - 1)
    squares = MeanSquares.of(values)
    n, r, least = squares.n, squares.r, squares.interaction
    both = (n - 1) * (r - 1)
    terms = [max((squares.training, n - 1), (least, both))]
    terms += [max((squares.evaluation, r - 1), (least, both)), (-least, both)] if r > 1 else []
    total = sum(square for square, _ in terms)
    df = total**2 / sum(square**2 / df for square, df in terms)
    return Estimate(float(values.mean()), float(np.sqrt(total / (n * r))), df)


def difference(first: ArrayLike, second: ArrayLike, paired: bool) -> Estimate | None:
    """First minus second, values (n, r) each; None if the seeds cannot tell.

    They cannot if either group has one training seed, or if neither group varies (the seed has no effect). `paired`:
    row i of both has the same seed. Otherwise, and if the differences do not vary, Welch's test (1947).
    """
    first, second = _matrix(first), _matrix(second)
    if min(len(first), len(second)) < 2:
        return None
    if paired and first.shape[1] == second.shape[1]:
        found = estimate(first - second)
        if found.error > 1e-12 * max(np.abs(first).max(), np.abs(second).max()):
            return found
    one, other = estimate(first), estimate(second)
    if not one.error and not other.error:
        return None
    squares = one.error**2, other.error**2
    df = sum(squares) ** 2 / (squares[0] ** 2 / one.df + squares[1] ** 2 / other.df)
    return Estimate(one.value - other.value, float(np.sqrt(sum(squares))), df)


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


def _matrix(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, float)
    return values[:, None] if values.ndim == 1 else values


def _varies(values: np.ndarray) -> bool:
    """Whether values differ by more than rounding of a mean."""
    return bool(np.ptp(values) > 1e-12 * np.abs(values).max())
