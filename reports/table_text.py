"""A table as text: for the terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from reports import notes
from reports.records import Collection
from reports.run_groups import COSTS, RunGroup, show_size
from reports.statistics import Mean, decimals
from reports.tables import Table

WIDEST_SETTINGS = 26  # characters in the terminal; longer ones wrap
NARROWEST = 100
FORMATS = ("terminal", "md", "csv", "latex")


@dataclass
class Column:
    title: str
    cells: list[str]
    right: bool = True

    def __post_init__(self) -> None:
        """Names come from records: what they hold beside text must not reach a terminal."""
        self.title = "\n".join(one_line(line) for line in self.title.split("\n"))
        self.cells = [one_line(cell) for cell in self.cells]

    @property
    def width(self) -> int:
        limit = WIDEST_SETTINGS if self.title == "settings" else 10**6
        return min(limit, max(len(line) for line in [*self.title.split("\n"), *self.cells]))


def render(table: Table, part: Collection, form: str) -> str:
    if form == "csv":
        return as_csv(table)
    columns = _columns(table)
    if form == "terminal":
        return _terminal(table, part, columns)
    from tabulate import tabulate

    cells = [*zip(*(column.cells for column in columns), strict=True)]
    titles = [column.title.replace("\n", " ") for column in columns]
    align = ["right" if column.right else "left" for column in columns]
    notes = _notes(table, part, table.metrics)
    if form == "latex":
        text = tabulate(cells, titles, tablefmt="latex_booktabs", disable_numparse=True, colalign=align)
        return "\n".join([text, *(f"% {one_line(note)}" for note in notes)]) + "\n"
    escaped = [[cell.replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in [titles, *cells]]
    text = tabulate(escaped[1:], escaped[0], tablefmt="github", disable_numparse=True, colalign=align)
    return "\n".join([text, "", *(f"- {one_line(note)}" for note in notes)]) + "\n"


def _columns(table: Table) -> list[Column]:
    """The most wanted first: a terminal takes as many as have room. Reference figures are rows at the end."""
    rows, held = table.rows, _held_against(table)
    extra = len(held)

    def column(title: str, cells: list[str], right: bool = True) -> Column:
        return Column(title, cells + [""] * (extra - (len(cells) - len(rows))), right)

    columns = [
        Column("method", [arm.method for arm in rows] + [notes.REFERENCE_TITLES[name] for name in held], right=False),
        column(_size_title(rows), [show_size(arm.size) for arm in rows]),
        column("seeds", [_seeds(arm) for arm in rows]),
    ]
    if any(arm.settings for arm in rows):
        columns.insert(2, column("settings", [arm.settings_text for arm in rows], right=False))
    for metric in table.metrics:
        cells = [mean_text(arm.mean(metric)) for arm in rows] + [_reference_text(table, metric, name) for name in held]
        columns.append(Column(f"{metric} {'↓' if table.lower_is_better[metric] else '↑'}", cells))
        if metric == table.primary_metric:
            columns.append(
                column(_against_title(table), [verdict_text(table, i, metric) for i in range(len(rows))], right=False)
            )
            columns += [column(COST_TITLES[name], [cost_text(name, arm.cost(name)) for arm in rows]) for name in COSTS]
    return [c for c in columns if any(c.cells)]


COST_TITLES = {
    "parameters": "trained\nparams",
    "adapter_bytes": "file",
    "train_seconds": "train\ntime",
    "step_seconds": "step\ntime",
    "total_seconds": "total\ntime",
    "memory_bytes": "peak\nmemory",
}


def _held_against(table: Table) -> list[str]:
    found = {name for metric in table.metrics for name in notes.references(table.rows, metric)}
    return [name for name in notes.REFERENCE_TITLES if name in found]


def _size_title(rows: Sequence[RunGroup]) -> str:
    fields = sorted({arm.size.field for arm in rows if arm.size})
    return fields[0] if len(fields) == 1 else "size"


def _against_title(table: Table) -> str:
    return f"against\n{table.reference.label}" if table.reference else "against"


def _seeds(arm: RunGroup) -> str:
    return f"{len(arm.finished)}" + (f" +{len(arm.failed)} failed" if arm.failed else "")


def mean_text(mean: Mean | None) -> str:
    if mean is None:
        return ""
    places = decimals(mean.value, mean.low, mean.high)
    if mean.low is None or mean.high is None:
        return f"{mean.value:.{places}f}"
    start, end = "()" if mean.how == "items of one run" else "[]"
    return f"{mean.value:.{places}f} {start}{mean.low:.{places}f}, {mean.high:.{places}f}{end}"


def _reference_text(table: Table, metric: str, name: str) -> str:
    values = notes.references(table.rows, metric).get(name, [])
    if not values:
        return ""
    low, high = (f"{value:.{decimals(value)}f}" for value in (values[0], values[-1]))
    return low if low == high else f"{low} to {high}"


def verdict_text(table: Table, row: int, metric: str) -> str:
    if table.rows[row] is table.reference:
        return "(reference)"
    verdict = table.verdicts.get((metric, row))
    if verdict is None:
        return ""
    return verdict.text if verdict.better is None or verdict.p is None else f"{verdict.text} (p {verdict.p:.2g})"


def cost_text(name: str, value: float | None) -> str:
    """A cost in a unit that keeps it short: 3.75 MB, 937 k, 101 s."""
    return "" if value is None else amount_text(value, COSTS[name].unit)


def amount_text(value: float, unit: str) -> str:
    """Three digits, and a prefix that keeps them short."""
    if unit == "s" and value >= 0.1:
        return f"{value:.3g} s" if value < 1000 else f"{value / 60:.0f} min"
    for power, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= power and unit != "s":
            return f"{value / power:.3g} {prefix}{unit}"
    if unit == "s" and value > 0:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} {unit}".strip()


def _notes(table: Table, part: Collection, metrics: Sequence[str]) -> list[str]:
    return [
        *notes.counts(part),
        *notes.measured_with(table.rows, metrics),
        *notes.how(table),
        *notes.warnings(table.rows, table.metrics),
    ]


def _terminal(table: Table, part: Collection, columns: list[Column]) -> str:
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    width = max(NARROWEST, shutil.get_terminal_size((NARROWEST, 24)).columns)
    shown = _fitting(columns, width)
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in shown:
        grid.add_column(Text(column.title), justify="right" if column.right else "left", overflow="fold")
    for row, cells in enumerate(zip(*(column.cells for column in shown), strict=True)):
        if row >= len(table.rows) and not any(cells[1:]):
            continue  # a reference of figures that had no room
        last = row in (len(table.rows) - 1, len(columns[0].cells) - 1)
        grid.add_row(*(Text(cell) for cell in cells), style="" if row < len(table.rows) else "dim", end_section=last)
    console = Console(file=(out := io.StringIO()), width=width, color_system=None)
    console.print(grid)
    left_out = [column.title.rstrip("↓↑ ").replace("\n", " ") for column in columns if column not in shown]
    notes = _notes(table, part, [metric for metric in table.metrics if metric not in left_out])
    notes += [f"No room for {', '.join(left_out)}: use --format csv or md."] if left_out else []
    for note in notes:
        console.print(Text(one_line(note)), soft_wrap=False)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _fitting(columns: list[Column], width: int) -> list[Column]:
    """As many as have room, in their order; the columns up to the verdict always."""
    needed = next((i + 1 for i, c in enumerate(columns) if c.title.startswith("against")), len(columns))
    shown, used = columns[:needed], sum(column.width + 2 for column in columns[:needed])
    for column in columns[needed:]:
        if used + column.width + 2 <= width:
            shown, used = [*shown, column], used + column.width + 2
    return shown


def as_csv(table: Table) -> str:
    """All numbers, unrounded, one row an arm; absent is empty."""
    rows = []
    for i, arm in enumerate(table.rows):
        size = arm.size
        row = {"task": table.task, "method": arm.method, "size_field": size.field if size else None}
        row |= {"size": size.value if size else None, "settings": arm.settings_text, "seeds": len(arm.finished)}
        row |= {"failed": len(arm.failed)}
        for metric in table.metrics:
            row |= _csv_metric(table, i, metric)
        rows.append(row | {name: arm.cost(name) for name in COSTS})
    writer = csv.DictWriter(
        out := io.StringIO(), list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _csv_metric(table: Table, row: int, metric: str) -> dict[str, object]:
    arm, verdict = table.rows[row], table.verdicts.get((metric, row))
    mean, held = arm.mean(metric), notes.references([arm], metric)
    figures = arm.figures(metric)
    cells: dict[str, object] = {metric: mean.value if mean else None}
    cells |= {f"{metric}_{end}": getattr(mean, end, None) for end in ("low", "high", "how")}
    cells |= {f"{metric}_{name}": values[0] for name, values in held.items() if len(values) == 1}
    cells |= {
        f"{metric}_n": figures[0].n if figures else None,
        f"{metric}_extractor": figures[0].extractor if figures else None,
    }
    cells |= {f"{metric}_difference": verdict.difference.value if verdict and verdict.difference else None}
    cells |= {
        f"{metric}_p_holm": verdict.p if verdict else None,
        f"{metric}_verdict": verdict.text if verdict else None,
    }
    return cells


def one_line(text: str) -> str:
    """Control characters out (a name may hold an escape sequence), all space one blank."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text).split())
