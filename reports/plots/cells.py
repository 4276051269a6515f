"""Cells of heat maps and points of curves: colours, the frame of the best one, marks of failed runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from reports.plots.style import COLOURS

DARK = 0.45  # darkness (1 - luma) of a cell from which on text is white
FAILED, CHOSEN, INK = "#d8dbe0", COLOURS[1], "#2b2f36"
WORSE = "//"  # hatch of cells that are worse than the untuned base
TOP, BOTTOM = 0.97, 0.03  # shares of the panel's height where marks of values outside of it lie
ROW, MOST_ROWS = 0.045, 5  # the same, between rows of marks
EDGE = "_edge"  # label of the marks, which no legend shows


class Interval(Protocol):
    """What has two ends, both or none known: a mean over seeds, a level of a setting."""

    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


@dataclass(frozen=True)
class Cell:
    """A rectangle of a heat map; `share` is its place on the colour scale, None for a failed run."""

    left: float
    bottom: float
    width: float
    height: float
    share: float | None
    text: str
    best: bool = False
    worse: bool = False


def draw_cell(panel: Axes, cell: Cell, colours: str, centre: float, size: float = 6) -> None:
    """The cell, with its text at `centre` of the horizontal axis (which may be logarithmic)."""
    corner = (cell.left, cell.bottom)
    share = None if cell.share is None else min(1.0, max(0.0, cell.share))
    colour = FAILED if share is None else matplotlib.colormaps[colours](share)
    red, green, blue = to_rgb(colour)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 1 - DARK
    hatch = {"hatch": WORSE, "hatch_linewidth": 0.5} if cell.worse else {}
    look = {"facecolor": colour, "edgecolor": "white"} | hatch
    panel.add_patch(Rectangle(corner, cell.width, cell.height, **look))
    if cell.best:
        frame = {"fill": False, "edgecolor": CHOSEN, "linewidth": 2.2, "zorder": 3}
        panel.add_patch(Rectangle(corner, cell.width, cell.height, **frame))
    box = {"facecolor": colour, "edgecolor": "none", "pad": 0.8} if cell.worse else None
    ink = "white" if dark else INK
    panel.text(
        centre, cell.bottom + cell.height / 2, cell.text, ha="center", va="center", fontsize=size, color=ink, bbox=box
    )


def mark_cut_intervals(panel: Axes, places: Iterable[float], intervals: Iterable[Interval], colour: Any) -> None:
    """A triangle at the edge of the panel where an interval goes on outside; limits must be final."""
    bottom, top = panel.get_ylim()
    look: dict[str, Any] = {"color": colour, "markersize": 4, "clip_on": False, "zorder": 4}
    for x, interval in zip(places, intervals, strict=True):
        if interval.high is not None and interval.high > top:
            panel.plot(x, top, "^", **look)
        if interval.low is not None and interval.low < bottom:
            panel.plot(x, bottom, "v", **look)


def mark_outside(panel: Axes, places: Sequence[float], sign: str, colour: Any, at: float = TOP) -> None:
    """Marks at an edge of the panel: triangles for values outside of it, crosses for failed runs.

    They lie in the first row from the edge in which no other line has a mark at one of these places.
    """
    if not places:
        return
    inwards = ROW if at < 0.5 else -ROW
    rows = [at + inwards * row for row in range(MOST_ROWS)]
    used = [(line.get_ydata(), {*np.asarray(line.get_xdata())}) for line in panel.lines if line.get_label() == EDGE]
    free = (y for y in rows if not any(np.allclose(other, y) and taken & {*places} for other, taken in used))
    look: dict[str, Any] = {"markersize": 5, "transform": panel.get_xaxis_transform(), "zorder": 4, "label": EDGE}
    panel.plot(places, [next(free, rows[-1])] * len(places), sign, color=colour, **look)
