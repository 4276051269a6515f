"""Render the cost table as text: one line per cost, one column per method; as CSV, one row per method."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence

from reports.costs.records import CostRecord
from reports.costs.table import RATIO, Cell, CostLine, CostTable, Row
from reports.run_groups import differing_settings, settings_text
from reports.text.format import amount_text, count_text, mixture_warning, one_line, range_text, tabulated


def render(table: CostTable, form: str) -> str:
    """The table with its notes in one of the formats "terminal", "md", "latex" and "csv" (numbers only)."""
    if form == "csv":
        return as_csv(table)
    titles = ["cost", *labels(table.rows)]
    cells = [[line.title, *(cell_text(line, line.cell(row)) for row in table.rows)] for line in table.lines().values()]
    rows = [[one_line(cell) for cell in row] for row in [titles, *cells]]
    align = ["left", *["right"] * len(table.rows)]
    return tabulated(rows, align, form, [one_line(note) for note in cost_notes(table)])


def labels(rows: Sequence[Row]) -> list[str]:
    """One name per row, with the adapter settings in which it differs from the rows of the same method and size."""
    return [f"{row.label} ({own})" if (own := _differing(row, rows)) else row.label for row in rows]


def _differing(row: Row, rows: Sequence[Row]) -> str:
    same = [json.loads(other.settings) for other in rows if other.label == row.label]
    names = sorted(differing_settings(same))
    own = json.loads(row.settings)
    return settings_text({f"adapter.{name}": own.get(name) for name in names})


def cell_text(line: CostLine, cell: Cell | None) -> str:
    if cell is None or cell.value is None:
        return cell.text if cell else ""
    middle, low, high = (None if v is None else amount(line, v) for v in (cell.value, cell.low, cell.high))
    return middle if middle and (low is None or high is None) else f"{middle} [{low}, {high}]"


def amount(line: CostLine, value: float) -> str:
    if line.unit == "%":
        return f"{100 * value:.3g} %"
    return f"{value:.3f}" if line.unit == RATIO else amount_text(value, line.unit)


def cost_notes(table: CostTable) -> list[str]:
    """How the costs were measured, what the intervals mean, and what the table mixes."""
    records = [record for row in table.rows for record in row.records]
    costs = [row.costs for row in table.rows if row.costs is not None]
    runs = sum(len(row.runs) for row in table.rows if row.costs is None)
    lines = [f"From {count_text(len(costs), 'cost record')}, and {count_text(runs, 'run')} of methods without one."]
    lines += [f"Unreadable: {path}: {reason}" for path, reason in table.unreadable]
    lines += _how("Peak memory", (r.memory.how for r in records if r.memory))
    lines += _how("Memory by category", (r.memory.categories_how for r in records if r.memory))
    lines += _how("Gradients sent", (r.communication.how for r in records if r.communication))
    lines += _how("Operations", (r.flops.how for r in records if r.flops))
    lines += _how("The machine's peak", (r.throughput.peak.how for r in records if r.throughput))
    steps = [r.throughput.n for r in records if r.throughput]
    lines += [f"Step time: median of {range_of(steps)} steps [quartiles]."] if steps else []
    if costs:
        lines += _latency_notes(costs)
    warnings = (mixture_warning(what, map(read, records)) for what, read in MUST_AGREE.items())
    return lines + [warning for warning in warnings if warning]


def _latency_notes(costs: Sequence[CostRecord]) -> list[str]:
    rounds, items = range_of([c.inference.unmerged.n for c in costs]), range_of([c.inference.items for c in costs])
    mixed = range_of([c.mixed_batch.items for c in costs])
    return [
        f"Latency: one forward pass, batch size {items}; ratios are medians over {rounds} interleaved rounds "
        "[95 % interval, sign test]; base / base shows the uncertainty of the measurement itself; "
        "'unsupported': the method cannot do this.",
        "Merge error: merged against unmerged output, as |difference| / |output| and as the largest difference.",
        f"Switch: loading another adapter's state from memory, median of {range_of([c.switch.n for c in costs])} "
        f"[quartiles]. Mixed batch: {mixed} items, each with a different adapter.",
    ]


def _how(what: str, ways: Iterable[str]) -> list[str]:
    return [f"{what}: {way}." for way in sorted(filter(None, {*ways}))]


def range_of(numbers: Sequence[int]) -> str:
    return range_text(min(numbers), max(numbers))


MUST_AGREE = {
    "base models": lambda record: record.config.task.get("base"),
    "batch sizes": lambda record: record.config.train.get("batch_size"),
    "precisions": lambda record: record.config.train.get("mixed_precision"),
    "gradient checkpointing settings": lambda record: record.config.train.get("gradient_checkpointing"),
    "devices": lambda record: record.device,
    "processors": lambda record: record.host.get("processor"),
    "torch versions": lambda record: record.versions.get("torch"),
}


def as_csv(table: CostTable) -> str:
    """One row per method with all numbers, unrounded."""
    lines = table.lines()
    writer = csv.writer(out := io.StringIO(), lineterminator="\n")
    ends = [f"{name}{end}" for name in lines for end in ("", ".low", ".high")]
    writer.writerow(["task", "method", "size_field", "size", "settings", "runs", *ends])
    for row in table.rows:
        size = row.size
        head = [table.task, row.method, size.field if size else "", size.value if size else "", row.settings]
        cells = [line.cell(row) or Cell(None) for line in lines.values()]
        values = [part for cell in cells for part in (cell.text or cell.value, cell.low, cell.high)]
        writer.writerow([*head, len(row.runs), *values])
    return out.getvalue()
