"""Quality along training (`--train.evaluate-every`): a run's curve of a metric, and the mean over a group's seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reports.records import Run
from reports.run_groups import RunGroup
from reports.schema import Size
from reports.statistics.seeds import Mean, mean_over_seeds
from reports.text.format import range_text


@dataclass(frozen=True)
class Point:
    """A metric of the model after step `step` (0: the untuned base), on `n` items, with a 95 % interval over them."""

    step: int
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class GroupCurve:
    """The curves of one group's runs by seed, and their mean at the steps that all seeds evaluated."""

    group: RunGroup
    finished: tuple[tuple[Run, tuple[Point, ...]], ...]
    failed: tuple[tuple[Run, tuple[Point, ...]], ...]
    means: tuple[tuple[int, Mean], ...]
    lower: bool

    @property
    def points(self) -> list[Point]:
        return [point for _, own in (*self.finished, *self.failed) for point in own]

    @property
    def best(self) -> tuple[int, Mean] | None:
        """The step with the best mean, the earlier of equal ones; the untuned base does not count."""
        trained = [(step, mean) for step, mean in self.means if step > 0]
        return min(trained, key=lambda pair: self._loss(pair[1]), default=None)

    @property
    def last_loss(self) -> float:
        """The mean at the last step, negative if more is better; infinite if no run has finished."""
        return self._loss(self.means[-1][1]) if self.means else math.inf

    def _loss(self, mean: Mean) -> float:
        return mean.value if self.lower else -mean.value


def run_curve(run: Run, metric: str) -> tuple[Point, ...]:
    """The run's curve in order of steps; empty without one. A figure that is not a finite number is left out."""
    points: dict[int, Point] = {}
    for line in run.curve():
        figures = line.get("metrics")
        figure = figures.get(metric) if isinstance(figures, dict) else None
        if isinstance(figure, dict) and (value := _number(figure.get("value"))) is not None:
            low, high, n = (_number(figure.get(name)) for name in ("low", "high", "n"))
            points[line["step"]] = Point(line["step"], value, low, high, None if n is None else int(n))
    return tuple(points[step] for step in sorted(points))


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:  # an integer that is too large
        return None


def group_curves(groups: Iterable[RunGroup], metric: str, lower: bool) -> list[GroupCurve]:
    """The groups with a run that evaluated the metric along its training."""
    found = []
    for group in groups:
        finished, failed = (
            tuple((run, own) for run in runs if len(own := run_curve(run, metric)) > 1)
            for runs in (group.finished, group.failed)
        )
        if finished or failed:
            found.append(
                GroupCurve(group, finished, failed, _means(group, metric, [own for _, own in finished]), lower)
            )
    return found


def _means(group: RunGroup, metric: str, curves: Sequence[Sequence[Point]]) -> tuple[tuple[int, Mean], ...]:
    by_step = [{point.step: point for point in own} for own in curves]
    bounds = next((figure.bounds for figure in group.figures(metric)), None)
    means = []
    for step in sorted(set.intersection(*map(set, by_step))) if by_step else ():
        points = [own[step] for own in by_step]
        low, high = points[0].low, points[0].high
        items = None if low is None or high is None else (low, high)
        means.append((step, mean_over_seeds([point.value for point in points], items, bounds)))
    return tuple(means)


def best_settings(curves: Sequence[GroupCurve]) -> list[GroupCurve]:
    """Of each method and size the settings whose mean at the last step is best, in order of method and size."""
    best: dict[tuple[str, Size | None], GroupCurve] = {}
    for curve in curves:
        key = (curve.group.method, curve.group.size)
        if key not in best or curve.last_loss < best[key].last_loss:
            best[key] = curve
    return sorted(best.values(), key=lambda curve: (curve.group.method, _size(curve.group)))


def _size(group: RunGroup) -> float:
    return group.size.value if group.size else 0.0


def curve_metrics(groups: Iterable[RunGroup]) -> list[str]:
    """The metrics that runs evaluated along their training."""
    runs = [run for group in groups for run in (*group.finished, *group.failed)]
    lines = [line.get("metrics") for run in runs for line in run.curve()]
    return list(dict.fromkeys(name for figures in lines if isinstance(figures, dict) for name in figures))


def n_text(curves: Iterable[GroupCurve]) -> str:
    """The number of items of each evaluation, as "n=50" or "n=10 to 50"."""
    numbers = sorted({point.n for curve in curves for point in curve.points if point.n is not None})
    return f"n={range_text(numbers[0], numbers[-1])}" if numbers else "n not recorded"
