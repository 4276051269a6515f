"""Plots of quality over cost, with the Pareto front: groups that no other group beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from reports.costs.fields import COSTS
from reports.plots.style import COLOURS, GREY, escape, method_colours, method_markers, new_figure
from reports.run_groups import RunGroup
from reports.text.table import cost_text

PANELS = ("parameters", "memory_bytes", "train_seconds", "adapter_bytes")


def front(points: Sequence[tuple[float, float]], lower_is_better: bool) -> list[int]:
    """Indices of the points (cost, quality) on the Pareto front, in order of cost."""
    sign = 1 if lower_is_better else -1
    best, indices = float("inf"), []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], sign * points[i][1])):
        if sign * points[i][1] < best:
            best = sign * points[i][1]
            indices.append(i)
    return indices


def pareto(groups: Sequence[RunGroup], metric: str) -> Figure | None:
    """The metric over each recorded cost, one panel per cost; None if fewer than two groups have one."""
    measured = [group for group in groups if group.values(metric)]
    costs = [name for name in PANELS if sum((group.cost(name) or 0) > 0 for group in measured) > 1]
    if not costs:
        return None
    figure, panels = new_figure(min(2, len(costs)), (len(costs) + 1) // 2, sharey=True)
    for panel, cost in zip(panels, costs, strict=False):
        _panel(panel, [group for group in measured if (group.cost(cost) or 0) > 0], metric, cost)
    for panel in panels[len(costs) :]:
        panel.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside upper right", ncols=min(7, len(labels)), fontsize=8)
    return figure


def _panel(panel: Axes, groups: Sequence[RunGroup], metric: str, cost: str) -> None:
    lower = groups[0].figures(metric)[0].better == "lower"
    methods = [group.method for group in groups]
    paint, shape = method_colours(methods), method_markers(methods)
    many = GREY in paint.values()
    minutes = COSTS[cost].unit == "s" and max(group.cost(cost) or 0.0 for group in groups) > 600
    scale = 60 if minutes else 1
    points = [
        ((group.cost(cost) or 0.0) / scale, mean.value if (mean := group.mean(metric)) else 0.0) for group in groups
    ]
    best = front(points, lower)
    panel.plot(*zip(*(points[i] for i in best), strict=True), drawstyle="steps-post", color=GREY, linewidth=1, zorder=1)
    seen: set[str] = set()
    for i, (group, (x, y)) in enumerate(zip(groups, points, strict=True)):
        colour = COLOURS[0] if many and i in best else paint[group.method]
        label = None if many or group.method in seen else escape(group.method)
        seen.add(group.method)
        panel.plot(
            x,
            y,
            shape[group.method],
            color=colour,
            markersize=6,
            alpha=1 if i in best or not many else 0.5,
            label=label,
        )
    _axis(panel, cost, minutes)
    _label_front(panel, [(groups[i], points[i]) for i in best], left_of=lower)
    panel.set_ylabel(escape(f"{metric} ({'lower' if lower else 'higher'} is better)"))


def _label_front(panel: Axes, front_points: Sequence[tuple[RunGroup, tuple[float, float]]], left_of: bool) -> None:
    """Label the groups on the front, on its empty side, except where labels would overlap."""
    bottom, top = panel.get_ylim()
    left, right = panel.get_xlim()
    taken: list[tuple[float, float]] = []
    for group, (x, y) in reversed(front_points):
        at = (log(x / left) / log(right / left), (y - bottom) / (top - bottom))
        if all(abs(at[0] - u) > 0.3 or abs(at[1] - v) > 0.06 for u, v in taken):
            taken.append(at)
            side, shift = ("left", 4) if at[0] < 0.25 or (left_of and at[0] <= 0.75) else ("right", -4)
            offset = (shift, -9 if left_of else 5)
            panel.annotate(escape(group.label), (x, y), offset, textcoords="offset points", ha=side, fontsize=7)


def _axis(panel: Axes, cost: str, minutes: bool) -> None:
    values = [x for line in panel.lines for x in line.get_xdata()]  # type: ignore[union-attr]
    low, high = float(min(values)), float(max(values))
    if high / low > 5:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 100 else (1.0, 2.0, 5.0)))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlim(low / 1.6, high * 1.6)
    else:
        margin = (high - low or high) * 0.12
        panel.set_xlim(max(low * 0.5, low - margin), high + margin)
        panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g} min" if minutes else cost_text(cost, x)))
    panel.set_xlabel(COSTS[cost].title.capitalize())
