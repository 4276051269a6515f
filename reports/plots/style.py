"""How our plots look, and how they are written so that drawing them again gives the same bytes."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind readers; yellow left out, it is lost on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
GREY, QUIET = "#8a8f98", "#5b616b"
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
    "figure.facecolor": "white",
}
DPI = 160


def canvas(
    columns: int, rows: int = 1, width: float = 4.6, height: float = 3.5, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """An empty figure, and its axes in reading order; inside `matplotlib.rc_context(STYLE)`."""
    figure = Figure(figsize=(max(5.6, width * columns), height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).flat)


def save(figure: Figure, path: Path, notes: Sequence[str] = ()) -> list[Path]:
    """`path` as .svg and .png with `notes` in small print below."""
    width = figure.get_figwidth()
    lines = [line for note in notes if note for line in textwrap.wrap(plain(note), int(width * 17))]
    if lines:
        text = "\n".join(lines)
        figure.supxlabel(text, x=0.01, ha="left", fontsize=7, color=QUIET, linespacing=1.35)
        figure.set_figheight(figure.get_figheight() + 0.135 * len(lines))
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_name(f"{path.name}.{kind}") for kind in ("svg", "png")]
    figure.savefig(files[0], metadata={"Date": None, "Creator": None})
    figure.savefig(files[1], dpi=DPI, metadata={"Software": None})
    return files


def style() -> Any:
    return matplotlib.rc_context(cast(Any, STYLE))


def plain(text: str) -> str:
    """Text from a record, with no mathematics in it: matplotlib reads $...$ as TeX and fails on what is none."""
    return "".join(c if c.isprintable() else " " for c in text).replace("$", r"\$")


def slug(name: str) -> str:
    """A file name for a name from a record: whatever is not a plain letter is replaced, and told apart by a hash."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:60]
    return safe if safe and safe == name else f"{safe.strip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def colours(methods: Sequence[str]) -> dict[str, str]:
    """A colour a method, the same in every plot of a task; more methods than colours are all grey."""
    names = sorted(set(methods))
    return {name: COLOURS[i] if len(names) <= len(COLOURS) else GREY for i, name in enumerate(names)}


def markers(methods: Sequence[str]) -> dict[str, str]:
    return {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(sorted(set(methods)))}
