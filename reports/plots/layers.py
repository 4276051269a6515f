"""Heat maps by layer and type of matrix: the rank with 90 % of the update's energy, and intruder dimensions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from reports.errors import ReportError
from reports.plots.cells import Cell, draw_cell
from reports.plots.style import NotebookFigure, escape
from reports.records import Run
from reports.run_groups import RunGroup, by_method, distinct_label
from reports.spectra import INTRUDER, LEADING, Spectrum, by_layer, spectra
from reports.sweeps.grid import best_group
from reports.tables import Table
from reports.text.format import count_text

MOST = 8  # panels
COLUMNS_OF_CELLS = 16  # cells side by side before a new row of panels begins
WIDTH, HEIGHT = 0.46, 0.27  # inches of a cell
COLOURS = "viridis_r"
LOG_SPAN = 10.0  # numbers that span this factor have colours by their logarithm
CHOICE = "Of each method and size the run of the best settings (by the primary metric) and the lowest seed."


def energy_maps(table: Table) -> tuple[Figure, list[str]]:
    """Rank that holds 90 % of the update's squared norm. Raises ReportError if no run's files hold its update."""
    note = "Directions with 90 % of the squared norm of the update (mean over the matrices of a place)."
    return _maps(table, lambda spectrum: spectrum.energy_rank, "rank of 90 % of the energy", note)


def intruder_maps(table: Table) -> tuple[Figure, list[str]]:
    """Intruder dimensions of each matrix. Raises ReportError if no run was decomposed by `experiments.truncate`."""
    note = (
        f"Of the first {LEADING} left singular vectors of W + dW, those with |cosine| < {INTRUDER} to every one of W's "
        "(Shuttleworth et al. 2024), mean over the matrices of a place."
    )
    return _maps(table, lambda spectrum: spectrum.intruders, f"intruders of {LEADING} directions", note)


def layer_runs(table: Table, measure: Callable[[Spectrum], float | None]) -> list[tuple[RunGroup, Run, dict]]:
    """Of each method and size the best group with a run whose matrices have the measure: the group, run and spectra."""
    same: dict[tuple, list[RunGroup]] = defaultdict(list)
    for group in by_method(table.rows):
        same[group.method, group.size].append(group)
    shown = []
    for groups in same.values():
        left = list(groups)
        while left:
            metric, lower = table.primary_metric, bool(table.lower_is_better.get(table.primary_metric or ""))
            group = (best_group(left, metric, lower) if metric else None) or left[0]
            left = [other for other in left if other is not group]
            if found := _measured(group, measure):
                shown.append((group, *found))
                break
    return shown


def _measured(group: RunGroup, measure: Callable[[Spectrum], float | None]) -> tuple[Run, dict] | None:
    for run in sorted(group.finished, key=lambda run: run.record.seed):
        try:
            own = {key: value for key, s in spectra(run).items() if (value := measure(s)) is not None}
        except ReportError:
            continue
        if own:
            return run, own
    return None


def _maps(table: Table, measure: Callable[[Spectrum], float | None], label: str, note: str) -> tuple[Figure, list[str]]:
    found = layer_runs(table, measure)
    if not found:
        raise ReportError(
            f"no run of '{table.task}' holds spectra for this: `python -m experiments.truncate RUN` writes them for "
            "every method that is a change of weights"
        )
    shown = found[:MOST]
    places = [by_layer(values) for _, _, values in shown]
    sizes = [(len({layer for layer, _ in each}), len({kind for _, kind in each})) for each in places]
    columns = min(len(shown), max(1, COLUMNS_OF_CELLS // max(width for width, _ in sizes)))
    rows = -(-len(shown) // columns)
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    size = (max(5.2, columns * (WIDTH * width + 1.5) + 0.8), rows * (HEIGHT * height + 1.0) + 0.3)
    figure = NotebookFigure(figsize=size, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    numbers = [value for each in places for values in each.values() for value in values]
    low, high = min(numbers), max(max(numbers), min(numbers) + 1)
    scale = LogNorm(low, high) if low > 0 and high > LOG_SPAN * low else Normalize(low, high)
    for panel, (group, run, _), each in zip(panels, shown, places, strict=False):
        _panel(panel, each, scale)
        panel.set_title(escape(f"{distinct_label(group, table.rows)}, seed {run.record.seed}"), fontsize=9)
    for surplus in panels[len(shown) :]:
        surplus.remove()
    bar = figure.colorbar(ScalarMappable(scale, COLOURS), ax=panels[: len(shown)], fraction=0.05, pad=0.02, aspect=25)
    bar.set_label(escape(label))
    bar.locator = LogLocator(subs=(1, 2, 5)) if isinstance(scale, LogNorm) else MaxNLocator(6, integer=True)
    bar.formatter = FuncFormatter(lambda value, _: f"{value:g}")
    bar.minorticks_off()
    bar.update_ticks()
    left = [f"{count_text(len(found) - MOST, 'more')} not shown."] if len(found) > MOST else []
    return figure, [" ".join([note, CHOICE, *left])]


def _panel(panel: Axes, places: Mapping[tuple[str, str], Sequence[float]], scale: Normalize) -> None:
    layers = list(dict.fromkeys(layer for layer, _ in places))
    kinds = list(dict.fromkeys(kind for _, kind in places))
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0, labelsize=8)
    slanted: dict[str, Any] = {"rotation": 40, "ha": "right"} if max(map(len, layers)) > 5 else {}
    panel.set_xticks(range(len(layers)), [escape(layer) for layer in layers], **slanted)
    panel.set_yticks(range(len(kinds)), [escape(kind) for kind in kinds])
    panel.set_xlim(-0.5, len(layers) - 0.5)
    panel.set_ylim(len(kinds) - 0.5, -0.5)
    for (layer, kind), values in places.items():
        x, y, mean = layers.index(layer), kinds.index(kind), float(np.mean(values))
        cell = Cell(x - 0.47, y - 0.46, 0.94, 0.92, float(scale(mean)), f"{mean:.3g}")
        draw_cell(panel, cell, COLOURS, centre=x, size=6.5)
