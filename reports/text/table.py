"""Render the table of a task as text: for the terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reports.costs.fields import COSTS
from reports.records import Collection
from reports.references import references
from reports.run_groups import RunGroup, size_text
from reports.schema import FigureRecord
from reports.statistics.seeds import Mean, clipped
from reports.tables import Table
from reports.text import notes
from reports.text.format import amount_text, interval_text, number_text, one_line, short_text, tabulated

MAX_SETTINGS_WIDTH = 26  # characters in the terminal; longer texts wrap
MIN_TERMINAL_WIDTH = 100


@dataclass
class Column:
    title: str
    cells: list[str]
    right: bool = True

    def __post_init__(self) -> None:
        """Records are untrusted: escape sequences in a name must not reach a terminal."""
        self.title = "\n".join(one_line(line) for line in self.title.split("\n"))
        self.cells = [one_line(cell) for cell in self.cells]

    @property
    def width(self) -> int:
        limit = MAX_SETTINGS_WIDTH if self.title == "settings" else 10**6
        return min(limit, max(len(line) for line in [*self.title.split("\n"), *self.cells]))


def render(table: Table, part: Collection, form: str) -> str:
    """The table with its notes in one of the formats "terminal", "md", "latex" and "csv" (numbers only)."""
    if form == "csv":
        return as_csv(table)
    columns = _columns(table)
    if form == "terminal":
        return _terminal(table, part, columns)
    titles = [column.title.replace("\n", " ") for column in columns]
    cells = [*zip(*(column.cells for column in columns), strict=True)]
    align = ["right" if column.right else "left" for column in columns]
    lines = [one_line(note) for note in notes.table_notes(table, part, table.metrics)]
    return tabulated([titles, *cells], align, form, lines)


def _columns(table: Table) -> list[Column]:
    """The most important columns first, since a terminal shows as many as fit; reference values are rows at the end.

    Metrics that were asked for come before the costs.
    """
    rows, shown = table.rows, _references_shown(table)

    def column(title: str, cells: list[str], right: bool = True) -> Column:
        return Column(title, cells + [""] * (len(rows) + len(shown) - len(cells)), right)

    columns = [
        Column("method", [group.method for group in rows] + [notes.REFERENCE_TITLES[name] for name in shown], False),
        column(size_title(rows), [size_text(group.size) for group in rows]),
    ]
    if any(group.settings for group in rows):
        columns.append(column("settings", [group.settings_text for group in rows], right=False))
    columns.append(column("seeds", [seeds_text(group) for group in rows]))
    if metric := table.primary_metric:
        verdicts = [verdict_text(table, index, metric) for index in range(len(rows))]
        columns += [_metric(table, metric, shown), column(_verdict_title(table), verdicts, right=False)]
        detectable = column("detectable\ndifference", [detectable_text(table, i, metric) for i in range(len(rows))])
        costs = [column(cost.heading, [cost_text(name, g.cost(name)) for g in rows]) for name, cost in COSTS.items()]
        others = [_metric(table, other, shown) for other in table.metrics[1:]]
        columns += [*others, detectable, *costs] if table.chosen else [detectable, *costs, *others]
    return [column for column in columns if any(column.cells)]


def _metric(table: Table, metric: str, references_shown: Sequence[str]) -> Column:
    cells = [mean_text(group.mean(metric)) for group in table.rows]
    cells += [_reference(table, metric, name) for name in references_shown]
    return Column(f"{metric} {'↓' if table.lower_is_better[metric] else '↑'}", cells)


def _references_shown(table: Table) -> list[str]:
    kinds = {found.kind for metric in table.metrics for found in references(table.rows, metric)}
    return [kind for kind in notes.REFERENCE_TITLES if kind in kinds]


def size_title(rows: Sequence[RunGroup]) -> str:
    fields = sorted({group.size.field for group in rows if group.size})
    return fields[0] if len(fields) == 1 else "size"


def _verdict_title(table: Table) -> str:
    return f"against\n{table.reference.label}" if table.reference else "against"


def seeds_text(group: RunGroup) -> str:
    return f"{len(group.finished)}" + (f" +{len(group.failed)} failed" if group.failed else "")


def figure_text(figure: FigureRecord) -> str:
    """One run's figure with its interval over items."""
    return mean_text(Mean(figure.value, 1, *clipped(figure.low, figure.high, figure.bounds), "items of one run"))


def mean_text(mean: Mean | None) -> str:
    if mean is None:
        return ""
    return interval_text(mean.value, mean.low, mean.high, "()" if mean.how == "items of one run" else "[]")


def _reference(table: Table, metric: str, kind: str) -> str:
    """The value; each of them if runs were evaluated in several ways."""
    return " or ".join(number_text(found.value) for found in references(table.rows, metric) if found.kind == kind)


def verdict_text(table: Table, row: int, metric: str) -> str:
    if table.rows[row] is table.reference:
        return "(reference)"
    verdict = table.verdicts.get((metric, row))
    return "" if verdict is None else verdict.text_with_p


def detectable_text(table: Table, row: int, metric: str) -> str:
    """The difference that a study of this size finds with 80 % power; empty if the seeds cannot tell."""
    verdict = table.verdicts.get((metric, row))
    return "" if verdict is None or verdict.detectable is None else short_text(verdict.detectable)


def cost_text(name: str, value: float | None) -> str:
    return "" if value is None else amount_text(value, COSTS[name].unit)


def _terminal(table: Table, part: Collection, columns: list[Column]) -> str:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    width = max(MIN_TERMINAL_WIDTH, shutil.get_terminal_size((MIN_TERMINAL_WIDTH, 24)).columns)
    shown = _columns_that_fit(columns, width, table.chosen)
    grid = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in shown:
        grid.add_column(Text(column.title), justify="right" if column.right else "left", overflow="fold")
    for row, cells in enumerate(zip(*(column.cells for column in shown), strict=True)):
        if row >= len(table.rows) and not any(cells[1:]):
            continue  # a reference value whose column does not fit
        last = row in (len(table.rows) - 1, len(columns[0].cells) - 1)
        grid.add_row(*(Text(cell) for cell in cells), style="" if row < len(table.rows) else "dim", end_section=last)
    console = Console(file=(out := io.StringIO()), width=width, color_system=None)
    console.print(grid)
    hidden = [column.title.rstrip("↓↑ ").replace("\n", " ") for column in columns if column not in shown]
    lines = notes.table_notes(table, part, [metric for metric in table.metrics if metric not in hidden])
    lines += [f"Too wide for the terminal: {', '.join(hidden)}. See --format csv or md."] if hidden else []
    wrapper = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)  # a path stays in one piece
    wrapped = [wrapper.fill(one_line(line)) for line in lines]
    return "\n".join([*(row.rstrip() for row in out.getvalue().splitlines()), *wrapped]) + "\n"


def _columns_that_fit(columns: list[Column], width: int, chosen: bool) -> list[Column]:
    """The columns up to the verdict, and to the last metric if these were chosen; then as many as fit, in order."""
    last = ("against", *(("↓", "↑") if chosen else ()))
    needed = [
        i + 1 for i, column in enumerate(columns) if column.title.startswith(last[0]) or column.title.endswith(last)
    ]
    required = max(needed, default=len(columns))
    shown, used = columns[:required], sum(column.width + 2 for column in columns[:required])
    for column in columns[required:]:
        if used + column.width + 2 <= width:
            shown, used = [*shown, column], used + column.width + 2
    return shown


def group_rows(table: Table) -> list[dict[str, Any]]:
    """One dictionary per group, all numbers unrounded; the columns of the CSV and of `reports.table`."""
    rows = []
    for index, group in enumerate(table.rows):
        size = group.size
        row = {"task": table.task, "method": group.method, "size_field": size.field if size else None}
        row |= {"size": size.value if size else None, "settings": group.settings_text}
        row |= {"seeds": len(group.finished), "failed": len(group.failed)}
        for metric in table.metrics:
            row |= _metric_cells(table, index, metric)
        rows.append(row | {name: group.cost(name) for name in COSTS})
    return rows


def _metric_cells(table: Table, index: int, metric: str) -> dict[str, Any]:
    group, verdict = table.rows[index], table.verdicts.get((metric, index))
    mean, figures = group.mean(metric), group.figures(metric)
    cells: dict[str, Any] = {metric: mean.value if mean else None}
    cells |= {f"{metric}.{name}": getattr(mean, name, None) for name in ("low", "high", "how")}
    found = references([group], metric)
    kinds = [reference.kind for reference in found]
    cells |= {f"{metric}.{each.kind}": each.value for each in found if kinds.count(each.kind) == 1}
    cells |= {
        f"{metric}.n": figures[0].n if figures else None,
        f"{metric}.extractor": figures[0].extractor if figures else None,
        f"{metric}.difference": verdict.difference.value if verdict and verdict.difference else None,
        f"{metric}.p_holm": verdict.p if verdict else None,
        f"{metric}.verdict": verdict.text if verdict else None,
        f"{metric}.detectable": verdict.detectable if verdict else None,
        f"{metric}.equivalent": verdict.equivalent if verdict else None,
    }
    parts = group.components(metric)
    return cells | ({f"{metric}.variance.{name}": value for name, value in asdict(parts).items()} if parts else {})


def as_csv(table: Table) -> str:
    """`group_rows` as CSV; missing values are empty."""
    rows = group_rows(table)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out := io.StringIO(), columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
