"""The look of all plots; files are written so that drawing them again gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.run_groups import RunGroup
from reports.text.notes import unit_text

# The palette of Okabe and Ito, which colour-blind readers can distinguish, without yellow (invisible on white)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
MOST_METHODS = 2 * len(COLOURS)
GREY, QUIET, FAINT = "#8a8f98", "#5b616b", "#d5d9df"
STYLE: dict[str, Any] = {
    "svg.hashsalt": "adapter-testbed",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#b4b9c1",
    "axes.labelcolor": "#2b2f36",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.grid.which": "major",
    "grid.color": "#e9ebee",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "legend.handlelength": 3.0,  # shows the dashes beside a marker
    "figure.facecolor": "white",
}
DPI = 160
LONG = 7  # characters of a value below a panel


class NotebookFigure(Figure):
    """A figure without pyplot, which a notebook shows all the same."""

    def _repr_png_(self) -> bytes:
        with style_context():
            self.savefig(buffer := io.BytesIO(), format="png", dpi=DPI)
        return buffer.getvalue()


def new_figure(
    columns: int, rows: int = 1, width: float = 4.6, height: float = 3.5, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """An empty figure, and its axes in reading order; call it inside `style_context()`."""
    figure = NotebookFigure(figsize=(max(5.6, width * columns), height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).flat)


def save(figure: Figure, path: Path, notes: Sequence[str] = ()) -> list[Path]:
    """Write `path` as .svg and .png, with `notes` in small print below the plot; returns the files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_name(f"{path.name}.{kind}") for kind in ("svg", "png")]
    with style_context():
        _add_notes(figure, notes)
        figure.draw_without_rendering()  # lays out the panels once, for both files
        figure.set_layout_engine("none")
        figure.savefig(files[0], metadata={"Date": None, "Creator": None})
        figure.savefig(files[1], dpi=DPI, metadata={"Software": None})
    return files


def _add_notes(figure: Figure, notes: Sequence[str]) -> None:
    width = figure.get_figwidth()
    lines = [line for note in notes if note for line in textwrap.wrap(escape(note), int(width * 17))]
    if lines:
        text = "\n".join(lines)
        figure.supxlabel(text, x=0.01, ha="left", fontsize=7, color=QUIET, linespacing=1.35)
        figure.set_figheight(figure.get_figheight() + 0.135 * len(lines))


def label_levels(panel: Axes, levels: Sequence[tuple[str, float]]) -> None:
    """Label horizontal lines: at the right end, or further left where another label or a marker is too close.

    Labels cover the lines that cross them. The panel's limits must be final.
    """
    bottom, top = panel.get_ylim()
    markers = _markers(panel)
    taken: dict[float, list[float]] = {x: [] for x in ALIGNMENT}
    for text, level in sorted(levels, key=lambda each: each[1]):
        height = (level - bottom) / (top - bottom)
        below = height > 1 - LABEL_HEIGHT
        middle = height + LABEL_HEIGHT / 2 * (-1 if below else 1)
        free = [x for x, others in taken.items() if all(abs(middle - other) > LABEL_HEIGHT for other in others)]
        x = min(free or [0.995], key=lambda x: _covered(markers, x, middle, len(text)))
        taken[x].append(middle)
        align: Any = ALIGNMENT[x]
        panel.annotate(
            escape(text),
            (x, level),
            (0, -1.5 if below else 1.5),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha=align,
            va="top" if below else "bottom",
            fontsize=7,
            color=QUIET,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6},
        )


def _markers(panel: Axes) -> np.ndarray:
    """Places of the panel's markers, as shares of its width and height."""
    lines = [line for line in panel.lines if line.get_marker() not in (None, "None", "") and np.size(line.get_xdata())]
    places = [line.get_transform().transform(np.asarray(line.get_xydata(), float)) for line in lines]
    return panel.transAxes.inverted().transform(np.concatenate(places)) if places else np.empty((0, 2))


def _covered(markers: np.ndarray, x: float, middle: float, characters: int) -> int:
    """The number of markers under a label at the share `x` of the width, which is its aligned end or its centre."""
    width = CHARACTER_WIDTH * characters
    centre = {"right": x - width / 2, "center": x, "left": x + width / 2}[ALIGNMENT[x]]
    near = np.abs(markers - (centre, middle)) < (width / 2 + MARKER, LABEL_HEIGHT / 2 + MARKER)
    return int(near.all(axis=1).sum())


ALIGNMENT = {0.995: "right", 0.5: "center", 0.005: "left"}  # by the share of the panel's width
LABEL_HEIGHT = 0.055  # share of a panel's height
CHARACTER_WIDTH, MARKER = 0.016, 0.012  # shares of a panel of the usual size: of a character, half of a marker


def style_context() -> Any:
    return matplotlib.rc_context(cast(Any, STYLE))


def escape(text: str) -> str:
    """Text from a record without TeX: matplotlib parses $...$ and fails if it is not valid mathematics."""
    return "".join(c if c.isprintable() else " " for c in text).replace("$", r"\$")


def metric_label(metric: str, groups: Sequence[RunGroup], lower: bool) -> str:
    """The label of a metric's axis, escaped: its unit, and in a second line which direction is better."""
    unit = unit_text([figure for group in groups for figure in group.figures(metric)])
    return f"{escape(f'{metric} ({unit})' if unit else metric)}\n{'lower' if lower else 'higher'} is better"


def set_value_ticks(panel: Axes, places: Sequence[float], texts: Sequence[str]) -> None:
    """Name values on the horizontal axis, slanted if they are too long to stand side by side."""
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right"} if max(map(len, texts)) > LONG else {}
    panel.set_xticks(places, [escape(text) for text in texts], **slanted)


def slug(name: str) -> str:
    """A safe file name for a name from a record; if characters were replaced, a hash keeps names distinct."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:60]
    return safe if safe and safe == name else f"{safe.strip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def method_colours(methods: Sequence[str]) -> dict[str, str]:
    """One colour per method, the same in every plot of a task; all grey if there are more than `MOST_METHODS`.

    Two methods share a colour if there are more methods than colours; markers and dashes tell them apart.
    """
    names = sorted(set(methods))
    many = len(names) > MOST_METHODS
    return {name: GREY if many else COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def method_turns(methods: Sequence[str]) -> dict[str, int]:
    """Of each method how many methods before it have its colour."""
    return {name: i // len(COLOURS) for i, name in enumerate(sorted(set(methods)))}


def method_markers(methods: Sequence[str]) -> dict[str, str]:
    return {name: MARKERS[(i + i // len(MARKERS)) % len(MARKERS)] for i, name in enumerate(sorted(set(methods)))}
