"""Legends outside of the panels: above them beside the title if they are short, else right of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MOST = 48  # entries; a study with more is read on the page
ROWS = 24  # entries below each other
MOST_ABOVE, CHARACTERS_PER_INCH, HANDLE = 5, 13, 8  # entries; of a line of text; characters as wide as a handle
TOO_MANY = "The lines are too many for a legend: the page names them."


def add_legend(figure: Figure, panels: Sequence[Axes], title: str | None = None, above: bool = True) -> bool:
    """One legend of all labelled lines of the panels, unless they are too many; whether there is one."""
    entries = {name: line for panel in panels for line, name in zip(*panel.get_legend_handles_labels(), strict=True)}
    if not entries or len(entries) > MOST:
        return False
    width = sum(len(name) + HANDLE for name in entries)
    if above and len(entries) <= MOST_ABOVE and width <= CHARACTERS_PER_INCH * figure.get_figwidth():
        figure.legend([*entries.values()], [*entries], loc="outside upper right", ncols=len(entries), fontsize=8)
    else:
        add_right_legend(figure, entries, title)
    return True


def add_right_legend(figure: Figure, entries: Mapping[str, Artist], title: str | None = None) -> None:
    """Right of all panels, in columns of at most `ROWS` entries; the figure grows by its width."""
    size, columns = 8 if len(entries) <= 12 else 7, -(-len(entries) // ROWS)
    figure.set_figwidth(figure.get_figwidth() + columns * (max(map(len, entries)) + HANDLE) * size / 72 * 0.58)
    look: dict[str, Any] = {"loc": "outside right upper", "ncols": columns, "fontsize": size, "title_fontsize": size}
    figure.legend([*entries.values()], [*entries], title=title, **look)
