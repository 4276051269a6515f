"""Plots of quality over size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullLocator

from reports.plots.cells import mark_cut_intervals
from reports.plots.legends import add_legend
from reports.plots.style import GREY, escape, label_levels, method_colours, method_markers, metric_label, new_figure
from reports.references import references
from reports.run_groups import RunGroup, at_best_rates, distinct_label, plot_lines
from reports.text import notes

DASHES = ("-", "--", ":", "-.")  # for the lines of one method
LABEL_SPACING = 1.5  # sizes whose ratio is larger have labels that do not touch


def size_curves(groups: Sequence[RunGroup], metric: str) -> tuple[Figure, list[str]] | None:
    """The metric over size, a panel per size field (rank, prefix length, ...), and notes; None if no group has a size.

    Each size is shown at its best learning rate (`at_best_rates`).
    Points are means over seeds with their 95 % interval, small dots single seeds. Groups without a size and the
    reference values (base, floor, ...) are horizontal lines.
    """
    groups, lines = at_best_rates([group for group in groups if group.values(metric)])
    fields = sorted({group.size.field for group in groups if group.size})
    if not fields:
        return None
    figure, panels = new_figure(len(fields), sharey=True)
    for panel, field in zip(panels, fields, strict=True):
        _panel(panel, groups, metric, field)
    _limits(panels[0], groups, metric)
    for panel, field in zip(panels, fields, strict=True):
        _horizontal_lines(panel, groups, metric)
        _mark_cut(panel, groups, metric, field)
    add_legend(figure, panels)
    lower = groups[0].figures(metric)[0].better == "lower"
    panels[0].set_ylabel(metric_label(metric, groups, lower))
    return figure, lines


def _panel(panel: Axes, groups: Sequence[RunGroup], metric: str, field: str) -> None:
    methods = [group.method for group in groups]
    paint, shape = method_colours(methods), method_markers(methods)
    sized = [group for group in groups if group.size and group.size.field == field]
    drawn: dict[str, int] = defaultdict(int)  # number of lines by method
    for name, line in plot_lines(sized).items():
        sizes = [group.size.value for group in line if group.size]
        means = [mean for group in line if (mean := group.mean(metric))]
        values = [mean.value for mean in means]
        method = line[0].method
        panel.plot(
            sizes,
            values,
            DASHES[drawn[method] % len(DASHES)],
            color=paint[method],
            marker=shape[method],
            markersize=5,
            linewidth=1.6,
            label=None if GREY in paint.values() else escape(name),
        )
        drawn[method] += 1
        for size, mean, group in zip(sizes, means, line, strict=True):
            if mean.low is not None and mean.high is not None:
                single_seed = mean.how == "items of one run"
                panel.vlines(
                    size, mean.low, mean.high, paint[method], linewidth=0.8 if single_seed else 1.6, alpha=0.75
                )
            if mean.n > 1:
                panel.plot([size] * mean.n, group.values(metric), ".", color=paint[method], markersize=3, alpha=0.45)
    _size_axis(panel, sorted({group.size.value for group in sized if group.size}))
    panel.set_xlabel(escape(field))
    if GREY in paint.values():
        _label_best(panel, sized, metric)


def labelled_sizes(sizes: Sequence[float]) -> list[float]:
    """The smallest, the largest, and those between whose labels do not touch; `sizes` ascend."""
    shown = [sizes[0]]
    for size in sizes[1:]:
        if size / shown[-1] > LABEL_SPACING:
            shown.append(size)
        elif size == sizes[-1]:
            shown[1:] = [*shown[1:-1], size]
    return shown


def _label_best(panel: Axes, groups: Sequence[RunGroup], metric: str) -> None:
    """Label the best group of the panel, for when there are too many methods for a legend."""
    lower = groups[0].figures(metric)[0].better == "lower"
    best = min(groups, key=lambda group: sum(group.values(metric)) / len(group.values(metric)) * (1 if lower else -1))
    if best.size:
        at = (best.size.value, sum(best.values(metric)) / len(best.values(metric)))
        panel.annotate(
            escape(distinct_label(best, groups)), at, (0, 5), textcoords="offset points", ha="center", fontsize=7
        )


def _size_axis(panel: Axes, sizes: Sequence[float]) -> None:
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_locator(FixedLocator(labelled_sizes(sizes)))
    panel.xaxis.set_minor_locator(NullLocator())
    short = EngFormatter(sep="\N{NARROW NO-BREAK SPACE}")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value < 1000 else short(value)))
    panel.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)


def _limits(panel: Axes, groups: Sequence[RunGroup], metric: str) -> None:
    """Fit all means and seeds; very long intervals (of two seeds) are cut off and marked."""
    values = [value for group in groups for value in group.values(metric)]
    span = (max(values) - min(values)) or abs(values[0]) or 1.0
    ends = [end for group in groups if (m := group.mean(metric)) for end in (m.low, m.high) if end is not None]
    low = max(min([*ends, *values]), min(values) - span / 2)
    high = min(max([*ends, *values]), max(values) + span / 2)
    panel.set_ylim(low - 0.08 * span, high + 0.08 * span)


def _horizontal_lines(panel: Axes, groups: Sequence[RunGroup], metric: str) -> None:
    paint = method_colours([group.method for group in groups])
    for group in (group for group in groups if group.size is None):
        mean = group.mean(metric)
        if mean is None or GREY in paint.values():
            continue
        panel.axhline(
            mean.value, color=paint[group.method], linewidth=1.4, linestyle=(0, (6, 2)), label=escape(group.method)
        )
        if mean.low is not None and mean.high is not None:
            panel.axhspan(mean.low, mean.high, color=paint[group.method], alpha=0.08, linewidth=0)
    bottom, top = panel.get_ylim()
    shown = [reference for reference in references(groups, metric) if bottom <= reference.value <= top]
    for reference in shown:
        panel.axhline(reference.value, color=GREY, linewidth=1, linestyle=":")
    label_levels(panel, [(notes.reference_title(reference), reference.value) for reference in shown])


def _mark_cut(panel: Axes, groups: Sequence[RunGroup], metric: str, field: str) -> None:
    paint = method_colours([group.method for group in groups])
    for group in groups:
        if group.size and group.size.field == field and (mean := group.mean(metric)):
            mark_cut_intervals(panel, [group.size.value], [mean], paint[group.method])
