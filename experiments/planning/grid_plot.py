"""Plot a grid of memory plans: GiB needed along one axis, one line per combination of the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.planning.cards import usable
from experiments.planning.grid import NEEDED
from experiments.planning.memory_plan import CARDS

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".svg", ".png", ".pdf")


def plot_grid(table: pd.DataFrame, varied: list[str], title: str, file: Path) -> None:
    """Write the plot of a `plan_grid` table; the axis with the most values is the horizontal one."""
    from matplotlib.figure import Figure

    horizontal = max(varied, key=lambda name: (table[name].nunique(), name))
    others = [name for name in varied if name != horizontal]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    groups: Any = table.groupby(others, sort=False) if others else [((), table)]
    for values, part in groups:
        label = ", ".join(f"{name} {value}" for name, value in zip(others, values, strict=True))
        axes.plot(part[horizontal], part[NEEDED], marker="o", label=label or None)
    highest = max(table[NEEDED].tolist())
    for card in CARDS:
        line = usable(card)
        if line <= 1.3 * highest:
            axes.axhline(line, color="grey", linewidth=0.6, linestyle="--")
            axes.annotate(
                f"{card} GB card", (1, line), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="grey"
            )
    axes.set(xlabel=horizontal, ylabel="needed, GiB (including allowances)", title=title, ylim=(0, None))
    if others:
        figure.legend(fontsize="small", loc="outside lower center", ncols=2)  # beside the axes: it hides no curve
    figure.savefig(file)
