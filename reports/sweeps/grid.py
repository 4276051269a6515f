"""A metric over two settings: one grid per method and other settings, with its best cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reports.errors import ReportError
from reports.run_groups import RunGroup, value_text
from reports.sweeps.axes import Facet, chosen_axes, facets, in_order, place, settings_with_size
from reports.tables import Table
from reports.text.format import count_text, one_line, tabulated
from reports.text.table import mean_text

SPREAD = 4.0  # colours and axes show values up to so many times the median's distance from the best


@dataclass(frozen=True)
class Grid:
    """The groups of one facet by the texts of their values on the two axes; `columns` and `rows` are those values."""

    axes: tuple[str, str]
    facet: Facet
    columns: tuple[Any, ...]
    rows: tuple[Any, ...]
    metric: str
    lower: bool

    @property
    def cells(self) -> dict[tuple[str, ...], RunGroup]:
        return {place(group, self.axes): group for group in self.facet.groups}

    @property
    def best(self) -> RunGroup | None:
        """The cell with the best mean over seeds; None if no run of the grid has finished."""
        return best_group(self.facet.groups, self.metric, self.lower)


def best_group(groups: Sequence[RunGroup], metric: str, lower: bool) -> RunGroup | None:
    """The group with the best mean; None if no group has one."""
    measured = [(mean.value, i) for i, group in enumerate(groups) if (mean := group.mean(metric))]
    if not measured:
        return None
    return groups[min(measured, key=lambda pair: pair[0] if lower else -pair[0])[1]]


def grids(table: Table, over: Sequence[str] = (), metric: str | None = None) -> list[Grid]:
    """A grid per method and other settings, those with most cells first.

    `over` names the settings of the columns and of the rows; by default the learning rate and the size. Raises
    ReportError, with what varied, if the runs do not differ in two settings within a method.
    """
    name = metric or table.primary_metric
    if name is None:
        raise ReportError(f"no run of '{table.task}' has a metric")
    groups = [group for group in table.rows if group.failed or group.values(name)]
    axes = chosen_axes(groups, table.task, over, 2)
    built = []
    for facet in facets(groups, axes):
        columns, rows = (in_order(settings_with_size(group)[axis] for group in facet.groups) for axis in axes)
        if len(columns) > 1 and len(rows) > 1:
            lower = table.lower_is_better[name]
            built.append(Grid((axes[0], axes[1]), facet, tuple(columns), tuple(rows), name, lower))
    if not built:
        raise ReportError(f"no method of '{table.task}' has several values of both {axes[0]} and {axes[1]}")
    return sorted(built, key=lambda grid: -len(grid.facet.groups))


def cell_text(group: RunGroup | None, metric: str) -> str:
    """The mean with its interval, the number of failed runs, or nothing for a place without runs."""
    if group is None:
        return ""
    failed = f"{count_text(len(group.failed), 'run')} failed" if group.failed else ""
    return ", ".join(filter(None, (mean_text(group.mean(metric)), failed)))


def worse_than_base(group: RunGroup, metric: str) -> bool:
    """Whether training made the metric worse than the untuned base's: a run that diverged without a NaN."""
    figures = [figure for figure in group.figures(metric) if figure.base is not None]
    if not figures:
        return False
    change = sum(figure.value - (figure.base or 0.0) for figure in figures)
    return change > 0 if figures[0].better == "lower" else change < 0


def shown_range(values: Sequence[float], lower: bool) -> tuple[float, float]:
    """From the best value to the worst that is worth telling apart: a diverged run must not hide all others.

    If no value is more than twice as far, all are shown.
    """
    best, worst = (min(values), max(values)) if lower else (max(values), min(values))
    middle = sorted(values)[len(values) // 2] if lower else sorted(values)[(len(values) - 1) // 2]
    limit = best + SPREAD * (middle - best)
    end = worst if abs(worst - best) <= 2 * abs(limit - best) else limit
    if end == best:
        end = best + (abs(best) * 0.05 or 1.0) * (1 if lower else -1)
    return min(best, end), max(best, end)


def render_grids(table: Table, over: Sequence[str], form: str) -> str:
    """One table per grid; the best cell is in asterisks."""
    parts = []
    found = grids(table, over)
    for grid in found:
        cells, best = grid.cells, grid.best
        rows = [[one_line(f"{grid.axes[1]} \\ {grid.axes[0]}"), *map(value_text, grid.columns)]]
        for row in grid.rows:
            texts = []
            for column in grid.columns:
                group = cells.get((value_text(column), value_text(row)))
                text = cell_text(group, grid.metric)
                texts.append(f"*{text}*" if group is not None and group is best else text)
            rows.append([one_line(cell) for cell in (value_text(row), *texts)])
        direction, better = ("lower", "lowest") if grid.lower else ("higher", "highest")
        notes = [
            f"{one_line(grid.facet.title)}: {grid.metric}, {direction} is better. *Asterisks*: the {better} mean; the "
            f"best of {count_text(len(grid.facet.groups), 'cell')} is a little too good."
        ]
        parts.append(tabulated(rows, ["right"] * len(rows[0]), form, notes))
    return "\n".join(parts)
