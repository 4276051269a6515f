"""Plots of training and validation loss over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from reports.plots.curves import DASHES
from reports.plots.legends import TOO_MANY, add_legend
from reports.plots.style import GREY, escape, method_colours, method_turns, new_figure
from reports.records import Run
from reports.run_groups import RunGroup, by_method, plot_lines, size_text
from reports.sweeps.grid import shown_range

KINDS = ("loss", "validation_loss")
TITLES = {"loss": "training loss, running mean", "validation_loss": "validation loss"}
HOW = "One line per run: colour by method, a darker shade for a larger size, dashes by the other settings."
ENDS = "A cross ends the line of a failed run; a loss above the frame is cut off."
PALEST = 0.62  # share of white in the colour of a method's smallest size


def loss_curve(lines: Sequence[Mapping], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and losses; the training loss as a running mean over a twentieth of the steps."""
    at, values = _numbers(lines, kind)
    width = max(1, len(values) // 20) if kind == "loss" else 1
    return (at[width - 1 :], np.convolve(values, np.ones(width) / width, "valid")) if values.size else (at, values)


def loss_curves(groups: Sequence[RunGroup]) -> tuple[Figure, str] | None:
    """Training loss and, if measured, validation loss, one line per run; and how to read them. None without steps.

    The colour is the method, its shade the size (the darkest is the largest), the dashes tell groups of one method and
    size apart, such as those with different learning rates.
    """
    steps = {run.folder: run.steps() for group in groups for run in _runs(group)}
    kinds = [k for k in KINDS if any(_numbers(lines, k)[1].size > 1 for lines in steps.values())]
    if not kinds:
        return None
    figure, panels = new_figure(len(kinds))
    looks = line_looks(groups)
    for panel, kind in zip(panels, kinds, strict=True):
        _loss_panel(panel, groups, steps, kind, looks)
    named = add_legend(figure, panels, above=False)
    return figure, f"{HOW if named else TOO_MANY} {ENDS}"


def line_looks(groups: Sequence[RunGroup]) -> dict[int, dict]:
    """Colour, dashes and label of each group, by its identity."""
    methods = [group.method for group in groups]
    paint, turns = method_colours(methods), method_turns(methods)
    looks: dict[int, dict] = {}
    for method in paint:
        own = [group for group in groups if group.method == method]
        names = {id(g): name for name, line in plot_lines(own).items() for g in line}
        sizes = sorted({group.size.value for group in own if group.size})
        lines = list(dict.fromkeys(names[id(group)] for group in own))
        for group in own:
            place = sizes.index(group.size.value) if group.size else 0
            white = PALEST * (1 - place / (len(sizes) - 1)) if len(sizes) > 1 else 0.0
            line = names[id(group)]
            looks[id(group)] = {
                "color": tuple(c + (1 - c) * white for c in to_rgb(paint[method])),
                "linestyle": DASHES[(lines.index(line) + 2 * turns[method]) % len(DASHES)],
                "label": None
                if GREY in paint.values()
                else escape(f"{method} {size_text(group.size)}".strip() + line.removeprefix(method)),
            }
    return looks


def _loss_panel(panel: Axes, groups: Sequence[RunGroup], steps: Mapping, kind: str, looks: Mapping) -> None:
    for group in by_method(groups):
        look = dict(looks[id(group)])
        for run in _runs(group):
            at, values = loss_curve(steps[run.folder], kind)
            if values.size > 1:
                panel.plot(at, values, linewidth=1.2, **look)
                look.pop("label", None)
                if run in group.failed:
                    panel.plot(at[-1], values[-1], "x", color=look["color"], markersize=5)
    panel.set_ylim(*_frame([loss_curve(steps[run.folder], kind)[1] for group in groups for run in _runs(group)]))
    panel.set_xlabel("step")
    panel.set_ylabel(TITLES[kind])


def _frame(curves: Sequence[np.ndarray]) -> tuple[float, float]:
    """From the lowest loss to where the curves begin; what diverges goes on outside."""
    curves = [values for values in curves if values.size > 1]
    low, high = shown_range([float(value) for values in curves for value in values], lower=True)
    high = max(high, float(np.median([values[0] for values in curves])))
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def _runs(group: RunGroup) -> list[Run]:
    return [*group.finished, *group.failed]


def _numbers(lines: Sequence[Mapping], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the lines whose value is a finite number."""
    pairs = [(line["step"], line[kind]) for line in lines if isinstance(line.get(kind), int | float)]
    table = np.array(pairs, float).reshape(-1, 2)
    table = table[np.isfinite(table).all(1)]
    return table[:, 0], table[:, 1]
