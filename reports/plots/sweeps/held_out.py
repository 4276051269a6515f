"""Held-out loss over steps on a log axis, coloured by size ("LoRA Without Regret", Schulman et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from reports.errors import ReportError
from reports.plots.curves import DASHES
from reports.plots.loss import loss_curve
from reports.plots.style import MARKERS, QUIET, escape, new_figure
from reports.plots.sweeps.u_curves import size_colour
from reports.records import Run
from reports.run_groups import RunGroup, by_method, size_text
from reports.sweeps.grid import shown_range
from reports.tables import Table
from reports.text import notes

KIND = "validation_loss"
FULL = "#000000"  # methods without a size
NOTE = (
    "Thick: for each method and size the settings with the lowest last loss, mean over their seeds; thin: single runs "
    "of the other settings. A loss above the frame is cut off."
)


def held_out_curves(table: Table) -> tuple[Figure, list[str]]:
    """The figure and the note below it; a panel per size field, with the methods without a size in every panel.

    Raises ReportError if no run recorded a validation loss at several steps.
    """
    curves = {run.folder: curve for group in table.rows for run in _runs(group) if (curve := _curve(run)) is not None}
    groups = [group for group in by_method(table.rows) if any(run.folder in curves for run in _runs(group))]
    if not groups:
        raise ReportError(f"no run of '{table.task}' recorded a validation loss at several steps")
    fields = sorted({group.size.field for group in groups if group.size}) or [None]
    figure, panels = new_figure(len(fields), sharey=True)
    ends = [curve[1] for curve in curves.values()]
    low, high = shown_range([float(v) for values in ends for v in values], lower=True)
    for panel, field in zip(panels, fields, strict=True):
        own = [group for group in groups if group.size is None or group.size.field == field]
        _panel(panel, own, curves)
        panel.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        panel.set_xlabel("step")
        _legend(panel, own, field)
    unit = notes.unit_text([figure for group in groups for figure in group.figures(KIND)])
    panels[0].set_ylabel(escape(f"held-out loss{f' ({unit})' if unit else ''}"))
    return figure, [NOTE]


def _runs(group: RunGroup) -> list[Run]:
    return [*group.finished, *group.failed]


def _curve(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
    steps, values = loss_curve(run.steps(), KIND)
    return (steps, values) if len(steps) > 1 else None


def _panel(panel: Axes, groups: Sequence[RunGroup], curves: dict) -> None:
    sizes = sorted({group.size.value for group in groups if group.size})
    methods = _line_styles(groups)
    for method in methods:
        for size in dict.fromkeys(group.size for group in groups if group.method == method):
            same = [group for group in groups if (group.method, group.size) == (method, size)]
            colour = FULL if size is None else size_colour(sizes.index(size.value), len(sizes))
            best = min(same, key=lambda group: _last_loss(group, curves))
            for group in same:
                own = [curves[run.folder] for run in _runs(group) if run.folder in curves]
                if group is best and _last_loss(group, curves) < np.inf:
                    panel.plot(*_mean(own), color=colour, linewidth=2.2, zorder=3, **methods[method])
                else:
                    for steps, values in own:
                        panel.plot(steps, values, color=colour, linewidth=0.8, alpha=0.55, **methods[method])
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def _last_loss(group: RunGroup, curves: dict) -> float:
    """Of its finished runs; infinite if none recorded one."""
    own = [curves[run.folder][1][-1] for run in group.finished if run.folder in curves]
    return float(np.mean(own)) if own else float("inf")


def _mean(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The mean at the steps that all curves have."""
    steps = sorted(set.intersection(*(set(at.tolist()) for at, _ in curves)))
    values = [dict(zip(at.tolist(), value, strict=True)) for at, value in curves]
    return np.array(steps), np.array([np.mean([each[step] for each in values]) for step in steps])


def _line_styles(groups: Sequence[RunGroup]) -> dict[str, dict[str, Any]]:
    """A line style per method: those with a size first, so that the usual one of them is solid; markers if need be."""
    sized = sorted({group.method for group in groups if group.size})
    plain = sorted({group.method for group in groups if not group.size})
    names = [(name, i) for own in (sized, plain) for i, name in enumerate(own)]
    turns = {name: i // len(DASHES) for name, i in names}
    markers = {name: {"marker": MARKERS[turn - 1], "markersize": 3.5} if turn else {} for name, turn in turns.items()}
    return {name: {"linestyle": DASHES[i % len(DASHES)]} | markers[name] for name, i in names}


def _legend(panel: Axes, groups: Sequence[RunGroup], field: str | None) -> None:
    sizes = sorted({group.size for group in groups if group.size}, key=lambda size: size.value)
    methods = _line_styles(groups)
    sized = {group.method for group in groups if group.size}
    lines = [
        Line2D([], [], color=size_colour(i, len(sizes)), linewidth=2.2, label=f"{field} {size_text(size)}")
        for i, size in enumerate(sizes)
    ]
    if len(methods) > 1 or not sized:
        lines += [
            Line2D([], [], color=QUIET if name in sized else FULL, label=escape(name), **style)
            for name, style in methods.items()
        ]
    panel.legend(handles=lines, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
