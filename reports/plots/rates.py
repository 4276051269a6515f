"""Plots of the searches of learning rates: heat maps over rate and size, and validation loss over the rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from reports.plots.cells import Cell, draw_cell, mark_outside
from reports.plots.legends import add_legend
from reports.plots.style import COLOURS, MARKERS, QUIET, escape, new_figure, save, slug, style_context
from reports.plots.sweeps.u_curves import size_colour
from reports.rates import SavedSearch, by_settings, by_task, edges, notes

MAP = "viridis_r"
WORST_SHOWN = 0.5  # share of the losses that the colours and the curves tell apart
ROW, TITLE = 0.3, 0.45  # inches
WIDTH = 7.6  # inches, of a heat map

HEAT_MAP_NOTE = "Framed: the chosen rate. Grey: the training failed. The colours do not tell losses above {:.3g} apart."
CURVES_NOTE = "Ringed: the chosen rate. Near the upper edge: triangles for higher losses, crosses for failed trainings."


def draw_rates(searches: Sequence[SavedSearch], folder: Path) -> Iterator[Path]:
    """Write a heat map and the curves of each task, as SVG and PNG; yields the files."""
    for task, own in by_task(searches).items():
        heat_map_note = HEAT_MAP_NOTE.format(limits(own)[1])
        for name, figure_of, note in (("rates", heat_map, heat_map_note), ("rate-curves", curves, CURVES_NOTE)):
            with style_context():
                figure = figure_of(own)
                figure.suptitle(
                    escape(f"{task}: validation loss, lower is better"), x=0.01, ha="left", fontsize=11, weight="bold"
                )
            yield from save(figure, folder / f"{name}-{slug(task)}", [note, *notes(task, own)])


def heat_map(searches: Sequence[SavedSearch]) -> Figure:
    """Validation loss of one task's searches over learning rate and size, one panel per method and settings.

    The panels lie below each other on one axis of rates, so that settings of a method can be compared.
    """
    groups = by_settings(searches)
    heights = [ROW * len(group) for group in groups.values()]
    height = sum(heights) + TITLE * (len(groups) + 1)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = list(figure.subplots(len(groups), squeeze=False, sharex=True, height_ratios=heights).flat)
    scale = Normalize(*limits(searches))
    for panel, (key, group) in zip(panels, groups.items(), strict=True):
        _rows(panel, _title(key), group, scale)
    _rate_axis(panels[-1], searches)
    figure.colorbar(ScalarMappable(scale, MAP), ax=panels, extend="max", fraction=0.05, pad=0.02, aspect=30)
    return figure


def _title(key: tuple[str, str]) -> str:
    return escape(", ".join(filter(None, key)))


def _rows(panel: Axes, title: str, group: Sequence[SavedSearch], scale: Normalize) -> None:
    panel.set_title(title, fontsize=9)
    panel.grid(False)
    panel.spines[:].set_visible(False)
    panel.tick_params(left=False)
    panel.set_yticks(range(len(group)), [_size_text(search) for search in group])
    panel.set_ylim(-0.5, len(group) - 0.5)
    if group[0].size is not None:
        panel.set_ylabel("size", color=QUIET)
    for row, search in enumerate(group):
        _row(panel, row, search, scale)


def _row(panel: Axes, row: int, search: SavedSearch, scale: Normalize) -> None:
    losses = search.losses()
    borders = edges([rate for rate, _ in losses])
    for low, high, (rate, loss) in zip(borders, borders[1:], losses, strict=False):
        share = None if loss is None else float(scale(loss))
        text = "failed" if loss is None else f"{loss:#.3g}".rstrip(".")
        cell = Cell(low, row - 0.46, high - low, 0.92, share, text, best=rate == search.chosen)
        draw_cell(panel, cell, MAP, centre=(low * high) ** 0.5)


def curves(searches: Sequence[SavedSearch]) -> Figure:
    """Validation loss of one task's searches over the learning rate, one panel per method and settings.

    All panels have the same axes, and one line per size. Methods with several settings come first, so that these lie
    side by side.
    """
    groups = by_settings(searches)
    panels_of = Counter(method for method, _ in groups)
    groups = dict(sorted(groups.items(), key=lambda item: -panels_of[item[0][0]]))
    columns = min(len(groups), 2)
    shared = {"sharex": True, "sharey": True}
    figure, panels = new_figure(columns, -(-len(groups) // columns), width=3.8, height=2.6, **shared)
    low, high = limits(searches)
    margin = 0.08 * (high - low)
    panels[0].set_ylim(low - margin, high + margin)
    sizes = sorted({search.size for search in searches if search.size is not None})
    for panel, (key, group) in zip(panels, groups.items(), strict=False):
        panel.set_title(_title(key), fontsize=9)
        for search in sorted(group, key=lambda search: search.size or 0):
            _curve(panel, search, sizes)
    for surplus in panels[len(groups) :]:
        surplus.remove()
    for panel in panels[max(0, len(groups) - columns) : len(groups)]:
        _rate_axis(panel, searches)
        panel.tick_params(labelbottom=True)
    add_legend(figure, panels[: len(groups)], "size", above=False)
    return figure


def _curve(panel: Axes, search: SavedSearch, sizes: Sequence[float]) -> None:
    """A size has the same look in all panels."""
    place = sizes.index(search.size) if search.size is not None else 0
    colour = COLOURS[0] if search.size is None else size_colour(place, len(sizes))
    marker = MARKERS[place % len(MARKERS)]
    finite = [(rate, loss) for rate, loss in search.losses() if loss is not None]
    failed = [rate for rate, loss in search.losses() if loss is None]
    above = [rate for rate, loss in finite if loss > panel.get_ylim()[1]]
    panel.plot(*zip(*finite, strict=True), marker=marker, color=colour, markersize=4, label=_size_text(search) or None)
    panel.plot(search.chosen, search.best, "o", color=colour, fillstyle="none", markersize=10)
    mark_outside(panel, above, "^", colour)
    mark_outside(panel, failed, "x", colour)


def limits(searches: Sequence[SavedSearch]) -> tuple[float, float]:
    """From the lowest loss to the one that WORST_SHOWN of all do not exceed, and no chosen rate's."""
    losses = sorted(loss for search in searches for _, loss in search.losses() if loss is not None)
    usual = losses[min(len(losses) - 1, round(WORST_SHOWN * len(losses)))]
    high = max(usual, *(search.best for search in searches))
    return losses[0], high if high > losses[0] else losses[0] + 1


def _rate_axis(panel: Axes, searches: Sequence[SavedSearch]) -> None:
    borders = [border for search in searches for border in edges([rate for rate, _ in search.losses()])]
    panel.set_xscale("log")
    panel.set_xlim(min(borders), max(borders))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("learning rate", color=QUIET)


def _size_text(search: SavedSearch) -> str:
    return "" if search.size is None else f"{search.size:g}"
