"""Costs of all methods as bars, one panel per cost: memory by category, operations by pass, latency as ratios."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from reports.costs.table import CostLine, CostTable, Row
from reports.plots.style import COLOURS, GREY, escape, new_figure
from reports.text.costs import amount, labels

COLUMNS = 3
BELOW = 18  # points from a panel to its legend, which leave room for the tick labels
SINGLE = (
    "parameters",
    "adapter_bytes",
    "sent_bytes",
    "step_seconds",
    "switch_seconds",
    "merge_error",
    "positions_left",
)
PASSES = ("forward_flops", "backward_flops", "optimizer_flops")
RATIOS = ("control", "unmerged", "merged", "mixed")


def cost_bars(table: CostTable) -> Figure | None:
    """None if no record has operations or latency: the Pareto plots show the other costs."""
    lines = table.lines()
    if not {"flops", "unmerged"} & lines.keys():
        return None
    memory = {name: line for name, line in lines.items() if name.startswith("memory_")}
    memory = memory or {name: lines[name] for name in ("peak_bytes",) if name in lines}
    stacks = {"peak memory in training": memory, "operations per step": _select(lines, PASSES)}
    singles = _select(lines, SINGLE)
    ratios = _select(lines, RATIOS)
    count = len(singles) + sum(map(bool, stacks.values())) + bool(ratios)
    figure, panels = new_figure(
        COLUMNS, -(-count // COLUMNS), width=3.9, height=1.1 + 0.32 * len(table.rows), sharey=True
    )
    unused = iter(panels)
    for line in singles.values():
        _bars(next(unused), table.rows, [line], line.title)
    for title, parts in stacks.items():
        if parts:
            _bars(next(unused), table.rows, [*parts.values()], title)
    if ratios:
        _ratios(next(unused), table.rows, [*ratios.values()])
    for panel in unused:
        panel.set_visible(False)
    panels[0].set_yticks(range(len(table.rows)), [escape(label) for label in labels(table.rows)])
    panels[0].invert_yaxis()
    return figure


def _select(lines: dict[str, CostLine], names: Sequence[str]) -> dict[str, CostLine]:
    return {name: lines[name] for name in names if name in lines}


def _bars(panel: Axes, rows: Sequence[Row], parts: Sequence[CostLine], title: str) -> None:
    """One bar per row, stacked from parts and labelled with its total; logarithmic if costs span decades."""
    values = [[(cell.value or 0.0) if (cell := part.cell(row)) else 0.0 for row in rows] for part in parts]
    starts = [0.0] * len(rows)
    for part, widths, colour in zip(parts, values, (*COLOURS, GREY) * 2, strict=False):
        label = escape(part.title.removeprefix("- ").removesuffix(f" {title}")) if len(parts) > 1 else None
        panel.barh(range(len(rows)), widths, left=starts, height=0.62, color=colour, label=label)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    panel.set_title(escape(title))
    positive = [width for width in starts if width > 0]
    if len(parts) == 1 and positive and max(positive) > 50 * min(positive):
        panel.set_xscale("log")
        panel.set_xlim(min(positive) / 3, max(positive) * 8)
    else:
        panel.set_xlim(0, max(positive, default=1.0) * 1.35)
        panel.xaxis.set_major_locator(MaxNLocator(4))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: amount(parts[0], x)))
    for place, width in enumerate(starts):
        if width > 0:
            panel.annotate(
                amount(parts[0], width), (width, place), (3, 0), textcoords="offset points", va="center", fontsize=7
            )
    if len(parts) > 1:
        _legend_below(panel, columns=2)


def _ratios(panel: Axes, rows: Sequence[Row], lines: Sequence[CostLine]) -> None:
    """Medians with intervals; 1 is the base model, or for a mixed batch the same batch with one adapter."""
    panel.axvline(1, color=GREY, linewidth=1)
    for shift, (line, colour) in enumerate(zip(lines, COLOURS, strict=False)):
        cells = [(place, cell) for place, row in enumerate(rows) if (cell := line.cell(row)) and cell.value is not None]
        middles = [cell.value or 0.0 for _, cell in cells]
        ends = [
            [abs((getattr(cell, end) or 0.0) - (cell.value or 0.0)) for _, cell in cells] for end in ("low", "high")
        ]
        places = [place + 0.2 * (shift - (len(lines) - 1) / 2) for place, _ in cells]
        label = escape(line.title.removeprefix("latency "))
        panel.errorbar(middles, places, xerr=ends, fmt="o", markersize=4, color=colour, capsize=2, label=label)
    panel.set_title("latency, as a ratio")
    _legend_below(panel, columns=1)


def _legend_below(panel: Axes, columns: int) -> None:
    """Below the tick labels, whatever the panel's height."""
    figure = panel.get_figure(root=True)
    assert figure is not None  # of a panel that was drawn
    below = ScaledTranslation(0, -BELOW / 72, figure.dpi_scale_trans)
    place: dict[str, Any] = {"bbox_to_anchor": (0.5, 0), "bbox_transform": panel.transAxes + below}
    panel.legend(fontsize=6.5, loc="upper center", ncols=columns, **place)
