"""Quality along training: a metric over steps, a line per method and size, the best step ringed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.errors import ReportError
from reports.plots.cells import BOTTOM, TOP, mark_cut_intervals, mark_outside
from reports.plots.legends import TOO_MANY, add_legend
from reports.plots.loss import line_looks
from reports.plots.pareto import LOG_SPAN
from reports.plots.style import GREY, MARKERS, label_levels, metric_label, new_figure
from reports.quality_curves import GroupCurve, best_settings, curve_metrics, group_curves, n_text
from reports.sweeps.grid import shown_range
from reports.tables import Table
from reports.text import notes
from reports.text.format import count_text, join_sorted, number_text

MOST_NAMED = 8  # lines whose best step the note names
NOTE = (
    "Thick: mean over seeds; thin: single seeds. Ringed: the best step, its bar a 95 % interval; no run stops there. A "
    "cross ends the line of a failed run; triangles at the edge mark means and intervals that go on outside."
)


def quality_curves(table: Table, metric: str) -> tuple[Figure, list[str]]:
    """The figure and the notes below it: of each method and size the settings that end best.

    Raises ReportError if no run evaluated the metric along its training.
    """
    lower = table.lower_is_better[metric]
    found = group_curves(table.rows, metric, lower)
    if not found:
        raise ReportError(_missing(table, metric))
    curves = best_settings(found)
    groups = [curve.group for curve in curves]
    figure, (panel,) = new_figure(1, width=6.4, height=4.0)
    _set_frame(panel, curves, lower)
    looks, sizes = line_looks(groups), sorted({group.size.value for group in groups if group.size})
    for curve in curves:
        place = sizes.index(curve.group.size.value) if curve.group.size else len(sizes)
        _line(panel, curve, looks[id(curve.group)], MARKERS[place % len(MARKERS)])
    _mark_base(panel, curves)
    panel.set_xlim(left=0)
    panel.set_xlabel("step")
    panel.set_ylabel(metric_label(metric, groups, lower))
    named = add_legend(figure, [panel], above=False)
    left = len(found) - len(curves)
    others = [f"Left out: {count_text(left, 'other setting')} of a method and size, which end worse."] if left else []
    return figure, [
        _measured(table, curves, metric),
        " ".join([NOTE, *others, *([] if named else [TOO_MANY])]),
        _best_steps(curves),
    ]


def _missing(table: Table, metric: str) -> str:
    known = curve_metrics(table.rows)
    if known:
        return f"no run of '{table.task}' evaluated {metric} along its training, but {join_sorted(known)}"
    return (
        f"no run of '{table.task}' has a curve of its quality: runs with `--train.evaluate-every N` evaluate a part of "
        "the test every N steps"
    )


def _set_frame(panel: Axes, curves: Sequence[GroupCurve], lower: bool) -> None:
    """From the best mean to where the curves begin after the base, on a log axis if that is far."""
    trained = [[mean.value for step, mean in curve.means if step > 0] for curve in curves]
    trained = [own for own in trained if own] or [[point.value for point in curve.points] for curve in curves]
    ends = shown_range([value for own in trained for value in own], lower)
    begin = float(np.median([own[0] for own in trained]))
    low, high = min(*ends, begin), max(*ends, begin)
    if low > 0 and high > LOG_SPAN * low:
        panel.set_yscale("log")
        panel.set_ylim(low / 1.15, high * 1.15)
    else:
        margin = 0.06 * (high - low)
        panel.set_ylim(low - margin, high + margin)


def _line(panel: Axes, curve: GroupCurve, look: Mapping[str, Any], marker: str) -> None:
    colour, style = look["color"], {"color": look["color"], "linestyle": look["linestyle"]}
    for _, points in (*(curve.finished if len(curve.finished) > 1 else ()), *curve.failed):
        panel.plot([p.step for p in points], [p.value for p in points], linewidth=0.8, alpha=0.4, **style)
    for _, points in curve.failed:
        panel.plot(points[-1].step, points[-1].value, "x", color=colour, markersize=6, zorder=4)
    steps, means = [step for step, _ in curve.means], [mean.value for _, mean in curve.means]
    label = look["label"] if means or look["label"] is None else f"{look['label']} (failed)"
    panel.plot(steps, means, marker=marker, markersize=3.5, linewidth=1.8, zorder=3, label=label, **style)
    if best := curve.best:
        step, mean = best
        panel.plot(step, mean.value, "o", color=colour, fillstyle="none", markersize=10, zorder=4)
        if mean.low is not None and mean.high is not None:
            panel.vlines(step, mean.low, mean.high, colour, linewidth=1, alpha=0.6)
        mark_cut_intervals(panel, [step], [mean], colour)
    bottom, top = panel.get_ylim()
    above = [s for s, mean in zip(steps, means, strict=True) if s > 0 and mean > top]
    below = [s for s, mean in zip(steps, means, strict=True) if s > 0 and mean < bottom]
    mark_outside(panel, above, "^", colour, at=TOP)
    mark_outside(panel, below, "v", colour, at=BOTTOM)


def _mark_base(panel: Axes, curves: Sequence[GroupCurve]) -> None:
    """A level at the untuned base's figure on the same items, if the runs agree on it and it is in the frame."""
    values = {point.value for curve in curves for point in curve.points if point.step == 0}
    bottom, top = panel.get_ylim()
    if len(values) == 1 and bottom <= (base := values.pop()) <= top:
        panel.axhline(base, color=GREY, linewidth=1, linestyle=":")
        label_levels(panel, [("untuned base", base)])


def _measured(table: Table, curves: Sequence[GroupCurve], metric: str) -> str:
    """As the metric's note of other plots, with the items of each evaluation beside those of the final one."""
    final = [figure for group in table.rows for figure in group.figures(metric)]
    whole = f" of the final evaluation's {notes.n_text(final).removeprefix('n=')}" if final else ""
    return notes.metric_note(metric, final, f"{n_text(curves)}{whole} at each step")


def _best_steps(curves: Sequence[GroupCurve]) -> str:
    named = [(curve.group.label, *best) for curve in curves if (best := curve.best)]
    texts = [f"{label} at step {step} ({number_text(mean.value)})" for label, step, mean in named[:MOST_NAMED]]
    more = f", {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return f"Best: {', '.join(texts)}{more}." if texts else ""
