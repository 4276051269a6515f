"""Plots of the searches of learning rates: heat maps over rate and size, and validation loss over the rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter

from reports.plots.style import COLOURS, MARKERS, QUIET, escape, new_figure, save, style_context
from reports.rates import SavedSearch, edges, notes

MAP = "viridis_r"
FAILED = "#d8dbe0"
WORST_SHOWN = 0.6  # share of the losses that the colours and the curves tell apart


def draw_rates(searches: Sequence[SavedSearch], folder: Path) -> Iterator[Path]:
    """Write a heat map and the curves of each task, as SVG and PNG; yields the files."""
    tasks: dict[str, list[SavedSearch]] = defaultdict(list)
    for search in searches:
        tasks[search.task].append(search)
    for task, own in tasks.items():
        for name, figure_of in (("rates", heat_map), ("rate-curves", curves)):
            with style_context():
                figure = figure_of(own)
            cut = f"losses above {_limits(own)[1]:.3g} are not told apart"
            yield from save(figure, folder / f"{name}-{task}", [*notes(own), cut])


def heat_map(searches: Sequence[SavedSearch]) -> Figure:
    """Validation loss over learning rate and size, one panel per method and setting.

    The best rate of a size has a frame, and a training that failed is grey.
    """
    panels_of = _by_label(searches)
    figure, panels = _figure(len(panels_of), sharex=True)
    scale = Normalize(*_limits(searches))
    for panel, (label, own) in zip(panels, panels_of.items(), strict=False):
        panel.set_title(escape(label))
        panel.grid(False)
        for row, search in enumerate(own):
            _row(panel, row, search, scale)
        if own[0].size is None:
            panel.set_yticks([])
        else:
            panel.set_yticks(range(len(own)), [_size_text(search) for search in own])
            panel.set_ylabel("size", color=QUIET)
        panel.set_ylim(-0.5, len(own) - 0.5)
        _rate_axis(panel, searches)
    bar = figure.colorbar(ScalarMappable(scale, MAP), ax=list(panels), extend="max", fraction=0.04, pad=0.02)
    bar.set_label("validation loss, lower is better")
    return figure


def _row(panel: Axes, row: int, search: SavedSearch, scale: Normalize) -> None:
    losses = search.losses()
    borders = edges([rate for rate, _ in losses])
    for i, (rate, loss) in enumerate(losses):
        low, high = borders[i], borders[i + 1]
        colour = FAILED if loss is None else matplotlib.colormaps[MAP](scale(min(loss, scale.vmax or loss)))
        panel.add_patch(Rectangle((low, row - 0.46), high - low, 0.92, facecolor=colour, edgecolor="white"))
        text = "failed" if loss is None else f"{loss:.3g}"
        dark = loss is not None and scale(loss) > 0.4
        panel.text(rate, row, text, ha="center", va="center", fontsize=6, color="white" if dark else "#2b2f36")
        if rate == search.chosen:
            panel.add_patch(
                Rectangle((low, row - 0.46), high - low, 0.92, fill=False, edgecolor=COLOURS[1], linewidth=2, zorder=3)
            )


def curves(searches: Sequence[SavedSearch]) -> Figure:
    """Validation loss over the learning rate, one panel per method and setting, one line per size."""
    panels_of = _by_label(searches)
    figure, panels = _figure(len(panels_of), sharex=True, sharey=True)
    low, high = _limits(searches)
    for panel, (label, own) in zip(panels, panels_of.items(), strict=False):
        panel.set_title(escape(label))
        for i, search in enumerate(own):
            finite = [(rate, loss) for rate, loss in search.losses() if loss is not None]
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            panel.plot(*zip(*finite, strict=True), marker=marker, color=colour, markersize=4, label=_size_text(search))
            best = dict(finite)[search.chosen]
            panel.plot([search.chosen], [best], "o", color=colour, fillstyle="none", markersize=10)
        margin = 0.06 * (high - low)
        panel.set_ylim(low - margin, high + margin)
        _rate_axis(panel, searches)
        if len(own) > 1:
            panel.legend(title="size", fontsize=7, title_fontsize=7)
    panels[0].set_ylabel("validation loss, lower is better")
    return figure


def _figure(count: int, **shared) -> tuple[Figure, list[Axes]]:
    """As many panels, at most three in a row; surplus ones are removed."""
    columns = min(count, 3)
    figure, panels = new_figure(columns, -(-count // columns), width=4.4, height=2.9, **shared)
    for surplus in panels[count:]:
        surplus.remove()
    return figure, panels[:count]


def _by_label(searches: Sequence[SavedSearch]) -> dict[str, list[SavedSearch]]:
    panels: dict[str, list[SavedSearch]] = defaultdict(list)
    for search in searches:
        panels[search.label].append(search)
    return panels


def _limits(searches: Sequence[SavedSearch]) -> tuple[float, float]:
    """From the lowest loss to the one that WORST_SHOWN of all do not exceed."""
    losses = sorted(loss for search in searches for _, loss in search.losses() if loss is not None)
    high = losses[min(len(losses) - 1, round(WORST_SHOWN * len(losses)))]
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
