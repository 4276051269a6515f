"""Plot of an intrinsic dimension: quality over size, the target, and the size at which it is reached."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from reports.intrinsic import CurveRecord, IntrinsicRecord
from reports.plots.style import COLOURS, GREY, MARKERS, escape, label_levels, new_figure


def crossings(record: IntrinsicRecord) -> Figure:
    """The metric over size on a log axis, one panel per size field; one thin line per seed, dots are runs.

    The vertical line is the size over seeds, its band the interval; the horizontal band spans the targets of the seeds.
    """
    fields = list(dict.fromkeys(curve.field for curve in record.curves))
    figure, panels = new_figure(len(fields), sharey=True)
    for panel, field in zip(panels, fields, strict=True):
        for i, curve in enumerate(record.curves):
            if curve.field == field:
                _curve(panel, curve, COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
        _size_axis(panel, field)
    _limits(panels, record)
    for panel in panels:
        _horizontal_lines(panel, record)
    for panel in panels:
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=8)
    panels[0].set_ylabel(escape(f"{record.metric} ({record.better} is better)"))
    return figure


def _curve(panel: Axes, curve: CurveRecord, colour: str, marker: str) -> None:
    label: str | None = escape(f"{curve.name}: {curve.text}")
    for place in curve.seeds:
        points = sorted((p.size, p.value) for p in place.points if p.value is not None)
        look = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 0.9, "alpha": 0.8}
        panel.plot([x for x, _ in points], [y for _, y in points], label=label, **look)
        label = None
    if curve.value is not None:
        panel.axvline(curve.value, color=colour, linewidth=1.6)
    low, high = curve.low or curve.range[0], curve.high or curve.range[1]
    if curve.value is not None or curve.low or curve.high:
        panel.axvspan(low, high, color=colour, alpha=0.12, linewidth=0)


def _size_axis(panel: Axes, field: str) -> None:
    sizes = [x for line in panel.lines for x in np.atleast_1d(np.asarray(line.get_xdata(), float)) if x > 1e-9]
    panel.set_xscale("log")
    low, high = min(sizes), max(sizes)
    if high / low > 500:
        panel.xaxis.set_major_locator(LogLocator())
    elif high < 200:  # ranks, widths
        panel.xaxis.set_major_locator(LogLocator(2, numticks=12))
    else:
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(EngFormatter(sep="\N{NARROW NO-BREAK SPACE}"))
    panel.set_xlim(low / 1.4, high * 1.4)
    panel.set_xlabel(escape(field))


def _limits(panels: list[Axes], record: IntrinsicRecord) -> None:
    """Fit every run, the base and the goal."""
    values = [p.value for curve in record.curves for place in curve.seeds for p in place.points if p.value is not None]
    values += [v for seed in record.measured for v in (seed.goal.value, seed.goal.base) if v is not None]
    margin = 0.07 * ((max(values) - min(values)) or 1.0)
    panels[0].set_ylim(min(values) - margin, max(values) + margin)


def _horizontal_lines(panel: Axes, record: IntrinsicRecord) -> None:
    """Horizontal lines at the untuned base and the goal, and a band over the targets."""
    seeds = record.measured
    targets = [seed.target for seed in seeds if seed.target is not None]
    goals = [seed.goal.value for seed in seeds if seed.goal.value is not None]
    bases = [seed.goal.base for seed in seeds if seed.goal.base is not None]
    panel.axhspan(min(targets), max(targets), color="#000000", alpha=0.08, linewidth=0)
    lines = {
        f"{100 * record.threshold:g} %": (targets, "--"),
        record.goal: (goals, "-"),
        "untuned base": (bases, ":"),
    }
    levels = {name: float(np.mean(values)) for name, (values, _) in lines.items() if values}
    for name, level in levels.items():
        panel.axhline(level, color=GREY, linestyle=lines[name][1], linewidth=1)
    label_levels(panel, [*levels.items()])
