"""A metric over one setting, mostly the learning rate: one line per size, the best point ringed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from reports.errors import ReportError
from reports.plots.cells import BOTTOM, TOP, mark_cut_intervals, mark_outside
from reports.plots.legends import add_right_legend
from reports.plots.style import COLOURS, MARKERS, escape, metric_label, new_figure, set_value_ticks
from reports.run_groups import RunGroup, size_text, value_text
from reports.schema import Size
from reports.sweeps.axes import (
    Facet,
    chosen_axes,
    differences_text,
    facets,
    in_order,
    is_number,
    settings_with_size,
    size_name,
    usual_order,
    varied,
)
from reports.sweeps.grid import best_group, shown_range
from reports.tables import Table
from reports.text.format import count_text

MOST, COLUMNS = 9, 3  # panels, and panels side by side
MOST_TICKS = 8
SPREAD = 10.0  # a setting whose values span this factor has a log axis
NOTE = (
    "Ringed: the best point of a line. Near the edge: a triangle for a mean outside of the frame, a cross for a run "
    "that failed or diverged. Bars: 95 % intervals; a small triangle at the edge marks one that goes on outside."
)


def u_curves(table: Table, over: Sequence[str] = (), metric: str | None = None) -> tuple[Figure, list[str]]:
    """The figure and the note below it; one panel per method and other settings.

    `over` is the setting of the horizontal axis, by default the learning rate. Raises ReportError if nothing varied.
    """
    name = metric or table.primary_metric
    if name is None:
        raise ReportError(f"no run of '{table.task}' has a metric")
    groups = [group for group in table.rows if group.failed or group.values(name)]
    axis = _axis(table.task, groups, over)
    panels_of: dict[tuple[str, str], list[Facet]] = defaultdict(list)
    for facet in facets(groups, [axis]):
        if len(facet.groups) > 1:
            panels_of[facet.method, facet.settings].append(facet)
    found = sorted(panels_of.items(), key=lambda item: -sum(len(facet.groups) for facet in item[1]))
    shown = found[:MOST]
    columns = min(len(shown), COLUMNS)
    figure, panels = new_figure(columns, -(-len(shown) // columns), width=4.2, height=3.2, sharex=True, sharey=True)
    lower = table.lower_is_better[name]
    _limits(panels[0], [group for _, lines in shown for line in lines for group in line.groups], name, lower)
    places = _places([group for _, lines in shown for line in lines for group in line.groups], axis)
    sizes = sorted({line.size.value for _, lines in shown for line in lines if line.size})
    for panel, ((method, settings), lines) in zip(panels, shown, strict=False):
        _panel(panel, lines, axis, places, name, lower, sizes)
        panel.set_title(escape(", ".join(filter(None, (method, settings)))), fontsize=9)
    for surplus in panels[len(shown) :]:
        surplus.remove()
    for i, panel in enumerate(panels[: len(shown)]):
        if i >= len(shown) - columns:
            panel.set_xlabel(escape(axis))
            panel.tick_params(labelbottom=True)
    _add_legend(figure, panels[: len(shown)], [line for _, lines in shown for line in lines])
    for panel in panels[: len(shown) : columns]:
        panel.set_ylabel(metric_label(name, groups, lower))
    left = [f"{count_text(len(found) - MOST, 'smaller panel')} not shown."] if len(found) > MOST else []
    return figure, [" ".join([NOTE, *left])]


def _axis(task: str, groups: Sequence[RunGroup], over: Sequence[str]) -> str:
    """The named setting, or else the usual one that is no size: over a size, "rank" plots show more."""
    if over:
        return chosen_axes(groups, task, over, 1)[0]
    sizes = {size_name(group.size) for group in groups if group.size}
    names = [name for name in usual_order(groups) if name not in sizes]
    if not names:
        raise ReportError(
            f"the runs of '{task}' do not differ in a setting besides the size: {differences_text(varied(groups))}"
        )
    return names[0]


def _places(groups: Sequence[RunGroup], axis: str) -> dict[str, float]:
    """The place of each value on the horizontal axis: a number itself, else its position."""
    values = in_order(settings_with_size(group)[axis] for group in groups)
    numbers = all(map(is_number, values))
    return {value_text(value): float(value) if numbers else float(i) for i, value in enumerate(values)}


def _panel(
    panel: Axes,
    lines: Sequence[Facet],
    axis: str,
    places: dict[str, float],
    metric: str,
    lower: bool,
    sizes: Sequence[float],
) -> None:
    sized = sorted(lines, key=lambda line: line.size.value if line.size else 0.0)
    for line in sized:
        at = [places[value_text(settings_with_size(group)[axis])] for group in line.groups]
        points = sorted(zip(at, line.groups, strict=True), key=lambda pair: pair[0])
        _line(panel, points, *_look(line, sizes), metric, lower, _label(line))
    _horizontal_axis(panel, places, settings_with_size(lines[0].groups[0])[axis])


def _label(line: Facet) -> str | None:
    return escape(f"{line.size.field} {size_text(line.size)}") if line.size else None


def _add_legend(figure: Figure, panels: Sequence[Axes], lines: Sequence[Facet]) -> None:
    """One legend right of all panels: a size has one colour in all of them."""
    drawn = [zip(*panel.get_legend_handles_labels(), strict=True) for panel in panels]
    entries = {label: handle for own in drawn for handle, label in own}
    ordered = sorted((line for line in lines if line.size), key=lambda line: (line.size or Size("", 1)).value)
    names = [name for line in ordered if (name := _label(line)) in entries and name is not None]
    names = list(dict.fromkeys(names))
    if names:
        add_right_legend(figure, {name: entries[name] for name in names})


def _look(line: Facet, sizes: Sequence[float]) -> tuple[Any, str]:
    place = sizes.index(line.size.value) if line.size else 0
    return size_colour(place, len(sizes)) if line.size else COLOURS[0], MARKERS[place % len(MARKERS)]


def size_colour(index: int, count: int) -> Any:
    """From pale (the smallest size) to dark; of a single line the first colour of all plots."""
    return COLOURS[0] if count == 1 else matplotlib.colormaps["viridis_r"](0.15 + 0.8 * index / (count - 1))


def _line(
    panel: Axes,
    points: Sequence[tuple[float, RunGroup]],
    colour: Any,
    marker: str,
    metric: str,
    lower: bool,
    label: str | None,
) -> None:
    means = [(x, mean) for x, group in points if (mean := group.mean(metric))]
    panel.plot(
        [x for x, _ in means],
        [mean.value for _, mean in means],
        marker=marker,
        markersize=4,
        linewidth=1.5,
        color=colour,
        label=label,
    )
    for x, mean in means:
        if mean.low is not None and mean.high is not None:
            panel.vlines(x, mean.low, mean.high, colour, linewidth=1, alpha=0.6)
    best = best_group([group for _, group in points], metric, lower)
    for x, group in points:
        if group is best and (mean := group.mean(metric)):
            panel.plot(x, mean.value, "o", color=colour, fillstyle="none", markersize=10)
    bottom, top = panel.get_ylim()
    mark_cut_intervals(panel, [x for x, _ in means], [mean for _, mean in means], colour)
    mark_outside(panel, [x for x, mean in means if mean.value > top], "^", colour)
    mark_outside(panel, [x for x, mean in means if mean.value < bottom], "v", colour, at=BOTTOM)
    failed = [x for x, group in points if not group.values(metric)]
    mark_outside(panel, failed, "x", colour, at=TOP if lower else BOTTOM)


def _limits(panel: Axes, groups: Sequence[RunGroup], metric: str, lower: bool) -> None:
    values = [mean.value for group in groups if (mean := group.mean(metric))]
    if values:
        low, high = shown_range(values, lower)
        margin = 0.12 * (high - low)
        panel.set_ylim(low - margin, high + margin)


def _horizontal_axis(panel: Axes, places: dict[str, float], example: Any) -> None:
    numbers = sorted(places.values())
    logarithmic = is_number(example) and numbers[0] > 0 and numbers[-1] >= SPREAD * numbers[0]
    if logarithmic:
        panel.set_xscale("log")
        panel.set_xlim(numbers[0] / 1.6, numbers[-1] * 1.6)
        apart = [n for i, n in enumerate(numbers) if i in (0, len(numbers) - 1) or n / numbers[i - 1] > 1.5]
    else:
        margin = 0.08 * (numbers[-1] - numbers[0] or 1.0)
        panel.set_xlim(numbers[0] - margin, numbers[-1] + margin)
        apart = numbers
    texts = {place: text for text, place in places.items()}
    panel.xaxis.set_minor_locator(NullLocator())
    shown = apart[:: -(-len(apart) // MOST_TICKS)]
    set_value_ticks(panel, shown, [texts[place] for place in shown])
