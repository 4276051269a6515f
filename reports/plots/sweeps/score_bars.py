"""PSCP as bars: the score of each group beside its performance before the penalties."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.figure import Figure

from reports.plots.style import COLOURS, FAINT, escape, new_figure
from reports.run_groups import distinct_label
from reports.sweeps.pscp import Penalties, pscp_notes, scores
from reports.tables import Table
from reports.text.format import number_text

MOST = 30
LABEL = 44  # characters of a line


def score_bars(table: Table, penalties: Penalties | None = None, metric: str | None = None) -> tuple[Figure, list[str]]:
    """The figure and the notes below it. Raises ReportError as `scores` does."""
    penalties = penalties or Penalties()
    name = metric or table.metrics[0]
    found = scores(table, penalties, name)
    shown = found[:MOST]
    names = [textwrap.fill(escape(distinct_label(score.group, table.rows)), LABEL) for score in shown]
    width = max(len(line) for name in names for line in name.split("\n"))
    figure, (panel,) = new_figure(1, width=5.2 + 0.085 * width, height=1.3 + 0.3 * len(shown))
    places = range(len(shown))
    panel.barh(places, [score.performance for score in shown], height=0.7, color=FAINT, label=f"{name} alone")
    panel.barh(places, [score.value for score in shown], height=0.42, color=COLOURS[0], label="PSCP")
    for y, score in zip(places, shown, strict=True):
        end = (max(score.performance, score.value, 0.0), y)
        look: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 8, "color": COLOURS[0]}
        panel.annotate(number_text(score.value), end, (4, 0), **look)
    panel.set_yticks(places, names, fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.14)
    panel.grid(axis="y", visible=False)
    panel.set_xlabel("points, higher is better")
    figure.legend(loc="outside upper right", ncols=2, fontsize=8)
    left = [f"The best {MOST} of {len(found)}."] if len(found) > MOST else []
    return figure, [*pscp_notes(table, name, penalties), *left]
