"""Plots of training and validation loss over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.plots.curves import add_legend
from reports.plots.style import escape, method_colours, new_figure
from reports.run_groups import RunGroup


def loss_curves(groups: Sequence[RunGroup]) -> Figure | None:
    """Training loss (running mean over a twentieth of the steps), and validation loss if it was measured.

    One line per run, coloured by method; a larger size is a stronger shade. None if no run recorded its steps.
    """
    steps = {run.folder: run.steps() for group in groups for run in [*group.finished, *group.failed]}
    kinds = [k for k in ("loss", "validation_loss") if any(_numbers(lines, k)[1].size > 1 for lines in steps.values())]
    if not kinds:
        return None
    figure, panels = new_figure(len(kinds))
    for panel, kind in zip(panels, kinds, strict=True):
        _loss_panel(panel, groups, steps, kind)
    add_legend(figure, panels)
    return figure


def _loss_panel(panel: Axes, groups: Sequence[RunGroup], steps: Mapping, kind: str) -> None:
    paint = method_colours([group.method for group in groups])
    largest = {
        group.method: max(a.size.value for a in groups if a.method == group.method and a.size)
        for group in groups
        if group.size
    }
    named: set[str] = set()
    for group in sorted(groups, key=lambda group: -(group.size.value if group.size else 0)):
        alpha = 0.9 if group.size is None else 0.3 + 0.6 * group.size.value / largest[group.method]
        for run in [*group.finished, *group.failed]:
            at, values = _numbers(steps[run.folder], kind)
            if values.size > 1:
                width = max(1, len(values) // 20) if kind == "loss" else 1
                smooth = np.convolve(values, np.ones(width) / width, "valid")
                label = None if group.method in named else escape(group.method)
                named.add(group.method)
                panel.plot(at[width - 1 :], smooth, color=paint[group.method], alpha=alpha, linewidth=1.2, label=label)
    panel.set_xlabel("step")
    panel.set_ylabel("training loss, running mean" if kind == "loss" else "validation loss")


def _numbers(lines: Sequence[Mapping], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the lines whose value is a finite number."""
    pairs = [(line["step"], line[kind]) for line in lines if isinstance(line.get(kind), int | float)]
    table = np.array(pairs, float).reshape(-1, 2)
    table = table[np.isfinite(table).all(1)]
    return table[:, 0], table[:, 1]
