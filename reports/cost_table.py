"""The table of costs as text: a line a cost, a column a method; as CSV a row a method, with every number."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence

from reports.costs import RATIO, Cell, CostTable, Line, Row
from reports.schema import Measured
from reports.table_text import amount_text, one_line

FORMATS = ("terminal", "md", "csv", "latex")
STYLES = {"terminal": "simple", "md": "github", "latex": "latex_booktabs"}


def render(table: CostTable, form: str) -> str:
    if form == "csv":
        return as_csv(table)
    from tabulate import tabulate

    titles = ["cost", *labels(table.rows)]
    cells = [[line.title, *(cell_text(line, line.cell(row)) for row in table.rows)] for line in table.lines().values()]
    rows = [[one_line(cell) for cell in row] for row in [titles, *cells]]
    if form == "md":
        rows = [[cell.replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in rows]
    align = ["left", *["right"] * len(table.rows)]
    text = tabulate(rows[1:], rows[0], tablefmt=STYLES[form], disable_numparse=True, colalign=align)
    mark = {"md": "- ", "latex": "% "}.get(form, "")
    return "\n".join([text, "", *(f"{mark}{one_line(note)}" for note in notes(table))]) + "\n"


def labels(rows: Sequence[Row]) -> list[str]:
    """A name a row; rows that differ in other settings of the adapter alone are numbered."""
    count, seen = Counter(row.label for row in rows), Counter()
    named = []
    for row in rows:
        seen[row.label] += 1
        named.append(row.label if count[row.label] == 1 else f"{row.label} ({seen[row.label]})")
    return named


def cell_text(line: Line, cell: Cell | None) -> str:
    if cell is None or cell.value is None:
        return cell.text if cell else ""
    middle, low, high = (None if v is None else amount(line, v) for v in (cell.value, cell.low, cell.high))
    return middle if middle and (low is None or high is None) else f"{middle} [{low}, {high}]"


def amount(line: Line, value: float) -> str:
    if line.unit == "%":
        return f"{100 * value:.3g} %"
    return f"{value:.3f}" if line.unit == RATIO else amount_text(value, line.unit)


def notes(table: CostTable) -> list[str]:
    """How all of it was measured, what the intervals are, and what is mixed."""
    records = [record for row in table.rows for record in row.records]
    costs = [row.costs for row in table.rows if row.costs is not None]
    runs = sum(len(row.runs) for row in table.rows if row.costs is None)
    lines = [f"From {len(costs)} records of costs, and {runs} runs for the methods that have none."]
    lines += [f"Unreadable: {path}: {why}" for path, why in table.unreadable]
    lines += _how("Peak memory", (r.memory.how for r in records if r.memory))
    lines += _how("Memory by category", (r.memory.categories_how for r in records if r.memory))
    lines += _how("Gradients sent", (r.communication.how for r in records if r.communication))
    lines += _how("Operations", (r.flops.how for r in records if r.flops))
    lines += _how("The machine's peak", (r.throughput.peak.how for r in records if r.throughput))
    steps = [r.throughput.n for r in records if r.throughput]
    lines += [f"Step time: median of {span(steps)} steps [quartiles]."] if steps else []
    if costs:
        lines += _of_latency(costs)
    return lines + warnings(records)


def _of_latency(costs: Sequence) -> list[str]:
    rounds, items = span([c.inference.unmerged.n for c in costs]), span([c.inference.items for c in costs])
    mixed = span([c.mixed_batch.items for c in costs])
    return [
        f"Latency: a forward pass of {items} item(s); ratios are medians over {rounds} interleaved rounds "
        "[95 % interval by the sign test], base / base what the measurement itself leaves uncertain; "
        "'cannot': the method has no such form.",
        "Merge error: merged against unmerged output, |difference| / |output| and the largest difference.",
        f"Switch: loading another adapter's state from memory, median of {span([c.switch.n for c in costs])} "
        f"[quartiles]. Mixed batch: {mixed} items, each with an adapter of its own.",
    ]


def _how(what: str, ways: Iterable[str]) -> list[str]:
    return [f"{what}: {way}." for way in sorted({way for way in ways if way})]


def span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def warnings(records: Sequence[Measured]) -> list[str]:
    """A sentence for everything that is mixed though costs depend on it."""
    lines = []
    for what, read in MIXED.items():
        kinds = Counter(str(read(record)) for record in records)
        if len(kinds) > 1:
            shown = ", ".join(f"{kind} ({n})" for kind, n in sorted(kinds.items()))
            lines.append(f"Warning: this mixes {len(kinds)} {what}: {shown}.")
    return lines


MIXED = {
    "base models": lambda record: record.config.task.get("base"),
    "batch sizes": lambda record: record.config.train.get("batch"),
    "precisions": lambda record: record.config.train.get("precision"),
    "settings of gradient checkpointing": lambda record: record.config.train.get("gradient_checkpointing"),
    "devices": lambda record: record.device,
    "processors": lambda record: record.host.get("processor"),
    "versions of torch": lambda record: record.versions.get("torch"),
}


def as_csv(table: CostTable) -> str:
    lines = table.lines()
    writer = csv.writer(out := io.StringIO(), lineterminator="\n")
    ends = [f"{name}{end}" for name in lines for end in ("", "_low", "_high")]
    writer.writerow(["task", "method", "size_field", "size", "settings", "runs", *ends])
    for row in table.rows:
        size = row.size
        head = [table.task, row.method, size.field if size else "", size.value if size else "", row.settings]
        cells = [line.cell(row) or Cell(None) for line in lines.values()]
        values = [part for cell in cells for part in (cell.text or cell.value, cell.low, cell.high)]
        writer.writerow([*head, len(row.runs), *values])
    return out.getvalue()
