"""The cost table of a task: the records of `experiments.costs`, and the costs in the run records, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from reports.costs.fields import COST_FIELDS, value_at
from reports.costs.records import CostRecord, RatioRecord, read_cost_records
from reports.errors import ReportError
from reports.records import collect
from reports.run_groups import size_text
from reports.schema import MethodRecord, Record, Size

UNSUPPORTED = "unsupported"
RATIO = "ratio"


@dataclass(frozen=True)
class Cell:
    """A figure of the table; `text` explains a missing value."""

    value: float | None
    low: float | None = None
    high: float | None = None
    text: str = ""


@dataclass
class Row:
    """One method at one size: its cost record, if there is one, and its finished runs."""

    method: str
    size: Size | None
    settings: str
    costs: CostRecord | None = None
    runs: list[Record] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.method} {size_text(self.size)}".strip()

    @property
    def records(self) -> list[MethodRecord]:
        """Where its figures come from: the cost record if there is one, else the runs."""
        return [self.costs] if self.costs is not None else [*self.runs]


@dataclass(frozen=True)
class CostLine:
    """One line of the table: `read` returns the figure of a record, or None if the record has none."""

    title: str
    unit: str
    read: Callable[[MethodRecord], Cell | None]

    def cell(self, row: Row) -> Cell | None:
        """The figure of the cost record, else the mean over the runs."""
        cells = [cell for record in row.records if (cell := self.read(record)) is not None]
        if len(cells) < 2:
            return cells[0] if cells else None
        values = [cell.value for cell in cells if cell.value is not None]
        return Cell(sum(values) / len(values)) if values else cells[0]


def read_number(*path: str) -> Callable[[MethodRecord], Cell | None]:
    """A reader of the number at `path` in a record."""

    def read(record: MethodRecord) -> Cell | None:
        value = value_at(record, path)
        return None if value is None else Cell(float(value))

    return read


def read_ratio(*path: str) -> Callable[[MethodRecord], Cell | None]:
    """A reader of the ratio at `path` in a cost record; None there means that the method does not support it."""

    def read(record: MethodRecord) -> Cell | None:
        if not isinstance(record, CostRecord):
            return None
        result: RatioRecord | None = value_at(record, path)
        return Cell(None, text=UNSUPPORTED) if result is None else Cell(result.median, result.low, result.high)

    return read


def _sent(record: MethodRecord) -> Cell | None:
    sent = record.communication
    if sent is None:
        return None
    return Cell(float(sent.predicted_bytes if sent.measured_bytes is None else sent.measured_bytes))


def _step(record: MethodRecord) -> Cell | None:
    throughput = record.throughput
    return None if throughput is None else Cell(throughput.step_seconds, throughput.low, throughput.high)


def _switch(record: MethodRecord) -> Cell | None:
    return (
        Cell(record.switch.seconds, record.switch.low, record.switch.high) if isinstance(record, CostRecord) else None
    )


def _positions(record: MethodRecord) -> Cell | None:
    left = record.facts.get("positions_left")
    return Cell(float(left)) if isinstance(left, int | float) else None


def _recorded(column: str) -> CostLine:
    """The line of a cost that run records hold too."""
    cost = COST_FIELDS[column]
    return CostLine(cost.title, cost.unit, read_number(*cost.path))


LINES = {
    "parameters": _recorded("parameters.trainable"),
    "adapter_bytes": _recorded("adapter_bytes"),
    "sent_bytes": CostLine("gradients sent per step", "B", _sent),
    "peak_bytes": _recorded("memory.peak_bytes"),
    "forward_flops": _recorded("flops.forward"),
    "backward_flops": _recorded("flops.backward"),
    "optimizer_flops": _recorded("flops.optimizer"),
    "flops": _recorded("flops.total"),
    "step_seconds": CostLine("step time", "s", _step),
    "samples_per_second": _recorded("samples_per_second"),
    "tokens_per_second": _recorded("tokens_per_second"),
    "share_of_peak": _recorded("share_of_peak"),
    "base_seconds": CostLine("latency, base", "s", read_number("inference", "base_seconds")),
    "control": CostLine("latency base / base (control)", RATIO, read_ratio("inference", "control")),
    "unmerged": CostLine("latency unmerged / base", RATIO, read_ratio("inference", "unmerged")),
    "merged": CostLine("latency merged / base", RATIO, read_ratio("inference", "merged")),
    "merge_error": CostLine("merge error, relative", "", read_number("inference", "relative_difference")),
    "largest_merge_error": CostLine("merge error, largest", "", read_number("inference", "largest_difference")),
    "switch_bytes": CostLine("switch to another adapter, size", "B", read_number("switch", "bytes")),
    "switch_seconds": CostLine("switch to another adapter, time", "s", _switch),
    "mixed": CostLine("mixed batch / one adapter", RATIO, read_ratio("mixed_batch", "ratio")),
    "one_by_one": CostLine("one by one / one adapter", RATIO, read_ratio("mixed_batch", "one_by_one")),
    "positions_left": CostLine("positions left for input", "", _positions),
}


@dataclass
class CostTable:
    """`unreadable` lists the cost records that could not be read, each with the reason."""

    task: str
    rows: list[Row]
    unreadable: list[tuple[Path, str]]

    def lines(self) -> dict[str, CostLine]:
        """The lines for which any row has a value: `LINES`, with the categories of memory after its peak."""
        lines: dict[str, CostLine] = {}
        for name, line in LINES.items():
            lines[name] = line
            if name == "peak_bytes":
                lines |= {
                    f"memory_{c}": CostLine(f"- {c}", "B", read_number("memory", "categories", c))
                    for c in self.categories()
                }
        return {name: line for name, line in lines.items() if any(map(line.cell, self.rows))}

    def categories(self) -> list[str]:
        """Categories of memory, in the order of the records."""
        memories = [record.memory for row in self.rows for record in row.records if record.memory]
        return list(dict.fromkeys(name for memory in memories for name in memory.categories or {}))


def build_cost_table(folder: Path, task: str) -> CostTable:
    """The table of `task`. Raises ReportError if no record holds its costs."""
    rows: dict[tuple, Row] = {}
    records, unreadable = read_cost_records(folder)
    for record in records:
        if record.task == task:
            _row(rows, record).costs = record
    try:
        runs = collect(folder).of_task(task).finished
    except ReportError:  # a folder may hold cost records only
        runs = []
    for run in runs:
        _row(rows, run.record).runs.append(run.record)
    if not rows:
        raise ReportError(
            f"no costs of '{task}' in '{folder}': run `python -m experiments.costs {task} --runs {folder}`"
        )
    return CostTable(task, [rows[key] for key in sorted(rows)], unreadable)


def _row(rows: dict[tuple, Row], record: MethodRecord) -> Row:
    """The row of a record: one per method, size and adapter settings."""
    settings = json.dumps(record.config.adapter, sort_keys=True, default=str)
    size = record.size
    key = (record.method, size.field if size else "", size.value if size else 0.0, settings)
    return rows.setdefault(key, Row(record.method, size, settings))
