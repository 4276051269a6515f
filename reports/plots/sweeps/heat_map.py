"""A metric over two settings as heat maps: one panel per method and other settings, the best cell framed."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from reports.plots.cells import Cell, draw_cell
from reports.plots.style import QUIET, NotebookFigure, escape, metric_label, set_value_ticks
from reports.run_groups import RunGroup, value_text
from reports.sweeps.grid import Grid, grids, shown_range, worse_than_base
from reports.tables import Table
from reports.text.format import count_text

MOST = 12  # panels
COLUMNS_OF_CELLS = 14  # cells side by side before a new row of panels begins
WIDTH, HEIGHT = 0.62, 0.46  # inches of a cell
MARGIN, TITLE = 1.0, 0.75  # inches of a panel's labels and title
NOTE = (
    "Framed: the best mean over seeds (the best of many is a little too good). Grey: the run failed or diverged. "
    "Hatched: worse than the untuned base. Empty: no run."
)


def heat_maps(table: Table, over: Sequence[str] = (), metric: str | None = None) -> tuple[Figure, list[str]]:
    """The figure and the note below it. Raises ReportError if the runs do not differ in two settings."""
    found = grids(table, over, metric)
    shown = found[:MOST]
    widest, tallest = max(len(grid.columns) for grid in shown), max(len(grid.rows) for grid in shown)
    columns = min(len(shown), max(1, COLUMNS_OF_CELLS // widest))
    rows = -(-len(shown) // columns)
    size = (max(5.2, columns * (WIDTH * widest + MARGIN) + 0.9), max(2.8, rows * (HEIGHT * tallest + TITLE) + 0.4))
    figure = NotebookFigure(figsize=size, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    first, scale = shown[0], _scale(shown)
    colours = "viridis_r" if first.lower else "viridis"
    for panel, grid in zip(panels, shown, strict=False):
        _panel(panel, grid, scale, colours)
    for surplus in panels[len(shown) :]:
        surplus.remove()
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=panels[: len(shown)], fraction=0.05, pad=0.02, aspect=25)
    bar.set_label(metric_label(first.metric, table.rows, first.lower), fontsize=8)
    left = [f"{count_text(len(found) - MOST, 'smaller grid')} not shown."] if len(found) > MOST else []
    return figure, [" ".join([NOTE, *left])]


def _scale(shown: Sequence[Grid]) -> Normalize:
    values = [m.value for grid in shown for group in grid.facet.groups if (m := group.mean(grid.metric))]
    return Normalize(*shown_range(values, shown[0].lower)) if values else Normalize(0, 1)


def _panel(panel: Axes, grid: Grid, scale: Normalize, colours: str) -> None:
    panel.set_title(escape(grid.facet.title), fontsize=9)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    set_value_ticks(panel, range(len(grid.columns)), [value_text(value) for value in grid.columns])
    panel.set_yticks(range(len(grid.rows)), [escape(value_text(value)) for value in grid.rows])
    panel.set_xlim(-0.5, len(grid.columns) - 0.5)
    panel.set_ylim(-0.5, len(grid.rows) - 0.5)
    for name, setter in zip(grid.axes, (panel.set_xlabel, panel.set_ylabel), strict=True):
        setter(escape(name), color=QUIET)
    cells, best = grid.cells, grid.best
    for x, column in enumerate(grid.columns):
        for y, row in enumerate(grid.rows):
            group = cells.get((value_text(column), value_text(row)))
            if group is not None:
                draw_cell(panel, _cell(group, x, y, grid, scale, group is best), colours, centre=x, size=7)


def _cell(group: RunGroup, x: int, y: int, grid: Grid, scale: Normalize, best: bool) -> Cell:
    mean = group.mean(grid.metric)
    failed = len(group.failed)
    text = "failed" if mean is None else f"{mean.value:.3g}"
    if mean is not None and failed:
        text += f"\n{failed} failed"
    share = None if mean is None else float(scale(mean.value))
    worse = mean is not None and worse_than_base(group, grid.metric)
    return Cell(x - 0.47, y - 0.46, 0.94, 0.92, share, text, best, worse)
