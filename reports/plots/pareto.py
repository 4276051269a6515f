"""Plots of quality over cost or over another metric, with the Pareto front: groups that no other beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from reports.costs.fields import COSTS
from reports.errors import ReportError
from reports.plots.legends import add_legend
from reports.plots.point_labels import label_key, label_points, short_labels
from reports.plots.style import COLOURS, GREY, escape, method_colours, method_markers, metric_label, new_figure
from reports.run_groups import RunGroup, by_method
from reports.text.table import cost_text

DRIFT = "drift"  # the metric of forgetting
LOG_SPAN = 30.0  # a metric that spans this factor has a log axis
Plotted = tuple[Figure, list[str]] | None  # with the note below it
PANELS = ("parameters", "memory_bytes", "train_seconds", "adapter_bytes")


def front(points: Sequence[tuple[float, float]], lower_is_better: bool, less_cost: bool = True) -> list[int]:
    """Indices of the points (cost, quality) on the Pareto front, in order of cost.

    With `less_cost` False the first number is a quality too, of which more is better.
    """
    sign, side = 1 if lower_is_better else -1, 1 if less_cost else -1
    best, indices = float("inf"), []
    for i in sorted(range(len(points)), key=lambda i: (side * points[i][0], sign * points[i][1])):
        if sign * points[i][1] < best:
            best = sign * points[i][1]
            indices.append(i)
    return indices


@dataclass(frozen=True)
class Horizontal:
    """What the horizontal axis shows: a cost, or another metric."""

    name: str
    title: str
    lower: bool
    cost: bool

    def read(self, group: RunGroup) -> float | None:
        if self.cost:
            return group.cost(self.name)
        mean = group.mean(self.name)
        return None if mean is None else mean.value

    @classmethod
    def of(cls, name: str, groups: Sequence[RunGroup], task: str) -> Horizontal:
        """A cost or a metric by its name. Raises ReportError for any other name."""
        if name in COSTS:
            return cls(name, COSTS[name].title.capitalize(), True, True)
        figures = {
            metric: figure
            for group in groups
            for run in group.finished
            for metric, figure in run.record.metrics.items()
        }
        if name not in figures:
            known = [*figures, *COSTS]
            close = get_close_matches(name, known, 1)
            meant = f" (did you mean '{close[0]}'?)" if close else ""
            raise ReportError(
                f"no run of '{task}' has a metric or a cost '{name}'{meant}: expected one of {', '.join(known)}"
            )
        lower = figures[name].better == "lower"
        return cls(name, metric_label(name, groups, lower), lower, False)


def pareto(groups: Sequence[RunGroup], metric: str) -> Plotted:
    """The metric over each recorded cost, one panel per cost; None if fewer than two groups have one."""
    usual = [Horizontal.of(name, groups, "") for name in PANELS]
    return _scatter(groups, metric, [axis for axis in usual if len(_having(groups, metric, axis)) > 1])


def against(groups: Sequence[RunGroup], metric: str, name: str, task: str) -> Plotted:
    """The metric over another metric or over one cost; None if fewer than two groups have both.

    Raises ReportError if there is no such metric or cost.
    """
    axis = Horizontal.of(name, groups, task)
    return _scatter(groups, metric, [axis] if len(_having(groups, metric, axis)) > 1 else [])


def forgetting(groups: Sequence[RunGroup], metric: str, task: str) -> Plotted:
    """Learning against forgetting (Biderman et al. 2024): the metric over the drift on general data."""
    if not any(group.values(DRIFT) for group in groups):
        known = sorted({name for group in groups for run in group.finished for name in run.record.metrics})
        raise ReportError(
            f"no run of '{task}' has the metric '{DRIFT}', which measures forgetting; `--only pareto --against METRIC` "
            f"draws {metric} over any of {', '.join(known)}"
        )
    return against(groups, metric, DRIFT, task)


def _having(groups: Sequence[RunGroup], metric: str, axis: Horizontal) -> list[RunGroup]:
    """The groups that have both values; costs must be positive."""
    measured = [group for group in groups if group.values(metric)]
    return [g for g in measured if (value := axis.read(g)) is not None and (value > 0 or not axis.cost)]


def _scatter(groups: Sequence[RunGroup], metric: str, axes: Sequence[Horizontal]) -> Plotted:
    """The figure, and what the labels beside its points mean."""
    if not axes:
        return None
    by_axis = [_having(groups, metric, axis) for axis in axes]
    shown = [group for group in groups if any(group in having for having in by_axis)]
    labels = {id(group): label for group, label in zip(shown, short_labels(shown), strict=True)}
    single = {"width": 6.4, "height": 4.4} if len(axes) == 1 else {}
    figure, panels = new_figure(min(2, len(axes)), (len(axes) + 1) // 2, sharey=True, **single)
    looks = _looks(groups)
    for panel, axis, having in zip(panels, axes, by_axis, strict=False):
        _panel(panel, by_method(having), labels, looks, metric, axis)
    for panel in panels[len(axes) :]:
        panel.set_visible(False)
    add_legend(figure, panels[: len(axes)])
    return figure, [label_key(shown)]


def _looks(groups: Sequence[RunGroup]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each method; no label if there are too many for a legend."""
    methods = [group.method for group in groups]
    paint, shape = method_colours(methods), method_markers(methods)
    return {
        name: {"color": paint[name], "marker": shape[name], "label": None if paint[name] == GREY else escape(name)}
        for name in paint
    }


def _panel(
    panel: Axes,
    groups: Sequence[RunGroup],
    labels: Mapping[int, str],
    looks: Mapping[str, dict[str, Any]],
    metric: str,
    axis: Horizontal,
) -> None:
    lower = groups[0].figures(metric)[0].better == "lower"
    minutes = axis.cost and COSTS[axis.name].unit == "s" and max(axis.read(group) or 0.0 for group in groups) > 600
    scale = 60 if minutes else 1
    points = [
        ((axis.read(group) or 0.0) / scale, mean.value if (mean := group.mean(metric)) else 0.0) for group in groups
    ]
    best = front(points, lower, axis.lower)
    look: dict[str, Any] = {"drawstyle": "steps-post", "color": GREY, "linewidth": 1, "zorder": 1}
    panel.plot(*zip(*(points[i] for i in best), strict=True), **look)
    base = _untuned(groups, metric, axis)
    if base is not None:
        panel.plot(*base, "*", color=GREY, markersize=10, zorder=2, label="untuned base")
    seen: set[str] = set()
    for i, (group, point) in enumerate(zip(groups, points, strict=True)):
        own = dict(looks[group.method])
        if own["label"] is None:  # more methods than looks: the front alone has a colour
            own |= {"color": COLOURS[0]} if i in best else {"alpha": 0.5}
        if group.method in seen:
            own["label"] = None
        seen.add(group.method)
        panel.plot(*point, markersize=6, linestyle="none", **own)
    shown = [*points, *([base] if base else [])]
    _axis(panel, [x for x, _ in shown], axis, minutes)
    _vertical_axis(panel, [y for _, y in shown])
    label_points(panel, points, [labels[id(group)] for group in groups], above=lower)
    panel.set_ylabel(metric_label(metric, groups, lower))


def _untuned(groups: Sequence[RunGroup], metric: str, axis: Horizontal) -> tuple[float, float] | None:
    """The untuned base's place over another metric, if the groups agree on it."""
    figures = [run.record.metrics for group in groups for run in group.finished]
    places = {
        (own[axis.name].base, own[metric].base)
        for own in figures
        if not axis.cost and {axis.name, metric} <= own.keys()
    }
    (x, y) = next(iter(places)) if len(places) == 1 else (None, None)
    return None if x is None or y is None else (x, y)


def _vertical_axis(panel: Axes, values: Sequence[float]) -> None:
    """Values that span orders of magnitude, such as a perplexity after divergence, have a log axis."""
    if min(values) > 0 and max(values) > LOG_SPAN * min(values):
        panel.set_yscale("log")
        margin = (max(values) / min(values)) ** 0.1
        panel.set_ylim(min(values) / margin, max(values) * margin)
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
    else:
        panel.margins(y=0.1)


def _axis(panel: Axes, values: Sequence[float], axis: Horizontal, minutes: bool) -> None:
    low, high = min(values), max(values)
    if axis.cost and high / low > 5:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 100 else (1.0, 2.0, 5.0)))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlim(low / 1.6, high * 1.6)
    else:
        margin = (high - low or abs(high) or 1.0) * 0.12
        panel.set_xlim(max(low * 0.5, low - margin) if axis.cost else low - margin, high + margin)
        panel.xaxis.set_major_locator(MaxNLocator(5))
    if axis.cost:
        name = axis.name
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g} min" if minutes else cost_text(name, x)))
    panel.set_xlabel(axis.title)
