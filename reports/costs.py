"""What methods cost: the records of `experiments.costs`, and what every run's record says, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from reports.errors import ReportError
from reports.records import collect, first_line, inside, load_json
from reports.run_groups import show_size
from reports.schema import Amount, Count, Measured, Record, Size

FILE = "costs.json"
CANNOT = "cannot"
RATIO = "ratio"


class Ratio(msgspec.Struct, frozen=True):
    """Median over `n` interleaved rounds, with the sign test's 95 % interval."""

    median: Amount
    low: Amount
    high: Amount
    n: Count


class Inference(msgspec.Struct, frozen=True):
    """A forward pass, ratios to the base model's; what is None the method has not."""

    items: Count
    base_seconds: Amount
    unmerged_seconds: Amount
    merged_seconds: Amount | None
    control: Ratio
    unmerged: Ratio
    merged: Ratio | None
    largest_difference: Amount | None
    relative_difference: Amount | None


class Switch(msgspec.Struct, frozen=True):
    """To another adapter: bytes, and seconds (median, quartiles)."""

    bytes: Count
    seconds: Amount
    low: Amount
    high: Amount
    n: Count


class MixedBatch(msgspec.Struct, frozen=True):
    """Items that use different adapters, as ratios to a batch with one; `ratio` is None where the method cannot."""

    items: Annotated[int, Meta(ge=1)]
    adapters: Annotated[int, Meta(ge=1)]
    seconds: Amount | None
    ratio: Ratio | None
    one_by_one_seconds: Amount
    one_by_one: Ratio


class CostRecord(Measured, frozen=True, kw_only=True):
    """`costs.json` as a whole."""

    inference: Inference
    switch: Switch
    mixed_batch: MixedBatch


@dataclass(frozen=True)
class Cell:
    """A figure of the table; `text` says why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    text: str = ""


@dataclass
class Row:
    """One method at one size: its cost record where there is one, and its finished runs."""

    method: str
    size: Size | None
    settings: str
    costs: CostRecord | None = None
    runs: list[Record] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.method} {show_size(self.size)}".strip()

    @property
    def records(self) -> list[Measured]:
        """What its figures come from: the cost record stands for all."""
        return [self.costs] if self.costs is not None else [*self.runs]


@dataclass(frozen=True)
class Line:
    """One cost: `read` gives a record's figure, or None where that record has none."""

    title: str
    unit: str
    read: Callable[[Measured], Cell | None]

    def cell(self, row: Row) -> Cell | None:
        """The cost record's figure, else the mean over the runs'."""
        cells = [cell for record in row.records if (cell := self.read(record)) is not None]
        if len(cells) < 2:
            return cells[0] if cells else None
        values = [cell.value for cell in cells if cell.value is not None]
        return Cell(sum(values) / len(values)) if values else cells[0]


def number(*path: str) -> Callable[[Measured], Cell | None]:
    """Reads a number by the names of its place in the record."""

    def read(record: Measured) -> Cell | None:
        value = _at(record, path)
        return None if value is None else Cell(float(value))

    return read


def ratio(*path: str) -> Callable[[Measured], Cell | None]:
    """Reads a ratio with its interval; a cost record without it says that the method cannot."""

    def read(record: Measured) -> Cell | None:
        if not isinstance(record, CostRecord):
            return None
        found: Ratio | None = _at(record, path)
        return Cell(None, text=CANNOT) if found is None else Cell(found.median, found.low, found.high)

    return read


def _at(record: Measured, path: Sequence[str]) -> Any:
    value: Any = record
    for name in path:
        value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
    return value


def _sent(record: Measured) -> Cell | None:
    found = record.communication
    if found is None:
        return None
    return Cell(float(found.predicted_bytes if found.measured_bytes is None else found.measured_bytes))


def _step(record: Measured) -> Cell | None:
    found = record.throughput
    return None if found is None else Cell(found.step_seconds, found.low, found.high)


def _switch(record: Measured) -> Cell | None:
    return (
        Cell(record.switch.seconds, record.switch.low, record.switch.high) if isinstance(record, CostRecord) else None
    )


def _positions(record: Measured) -> Cell | None:
    left = record.facts.get("positions_left")
    return Cell(float(left)) if isinstance(left, int | float) else None


LINES = {
    "parameters": Line("trained parameters", "", number("parameters", "trainable")),
    "adapter_bytes": Line("adapter file", "B", number("adapter_bytes")),
    "sent_bytes": Line("gradients sent a step", "B", _sent),
    "peak_bytes": Line("peak memory in training", "B", number("memory", "peak_bytes")),
    "forward_flops": Line("forward operations a step", "FLOP", number("flops", "forward")),
    "backward_flops": Line("backward operations a step", "FLOP", number("flops", "backward")),
    "optimizer_flops": Line("optimizer operations a step", "FLOP", number("flops", "optimizer")),
    "flops": Line("operations a step", "FLOP", number("flops", "total")),
    "step_seconds": Line("step time", "s", _step),
    "samples_per_second": Line("samples a second", "", number("throughput", "samples_per_second")),
    "tokens_per_second": Line("tokens a second", "", number("throughput", "tokens_per_second")),
    "share_of_peak": Line("share of the machine's peak", "%", number("throughput", "share_of_peak")),
    "base_seconds": Line("latency, base", "s", number("inference", "base_seconds")),
    "control": Line("latency base / base (control)", RATIO, ratio("inference", "control")),
    "unmerged": Line("latency unmerged / base", RATIO, ratio("inference", "unmerged")),
    "merged": Line("latency merged / base", RATIO, ratio("inference", "merged")),
    "merge_error": Line("merge error, relative", "", number("inference", "relative_difference")),
    "largest_merge_error": Line("merge error, largest", "", number("inference", "largest_difference")),
    "switch_bytes": Line("switch to another adapter, size", "B", number("switch", "bytes")),
    "switch_seconds": Line("switch to another adapter, time", "s", _switch),
    "mixed": Line("mixed batch / one adapter", RATIO, ratio("mixed_batch", "ratio")),
    "one_by_one": Line("its items one by one / one adapter", RATIO, ratio("mixed_batch", "one_by_one")),
    "positions_left": Line("positions left for input", "", _positions),
}


@dataclass
class CostTable:
    """`unreadable`: the cost records that could not be read, each with its sentence."""

    task: str
    rows: list[Row]
    unreadable: list[tuple[Path, str]]

    def lines(self) -> dict[str, Line]:
        """What any row has: `LINES`, and behind the peak of memory its categories."""
        found: dict[str, Line] = {}
        for name, line in LINES.items():
            found[name] = line
            if name == "peak_bytes":
                found |= {
                    f"memory_{c}": Line(f"- {c}", "B", number("memory", "categories", c)) for c in self.categories()
                }
        return {name: line for name, line in found.items() if any(map(line.cell, self.rows))}

    def categories(self) -> list[str]:
        """Of memory, in the order of the records."""
        memories = [record.memory for row in self.rows for record in row.records if record.memory]
        return list(dict.fromkeys(name for memory in memories for name in memory.categories or {}))


def build(folder: Path, task: str) -> CostTable:
    """The table of `task`. Raises ReportError where nothing says what a method costs on it."""
    rows: dict[tuple, Row] = {}
    found, unreadable = _cost_records(folder)
    for record in found:
        if record.task == task:
            _row(rows, record).costs = record
    try:
        runs = collect(folder).of_task(task).finished
    except ReportError:  # a folder may hold costs and no run
        runs = []
    for run in runs:
        _row(rows, run.record).runs.append(run.record)
    if not rows:
        raise ReportError(
            f"nothing in '{folder}' says what a method costs on '{task}': run `python -m experiments.costs {task}`"
        )
    return CostTable(task, [rows[key] for key in sorted(rows)], unreadable)


def _row(rows: dict[tuple, Row], record: Measured) -> Row:
    """The row of a record: one a method, size and settings of the adapter."""
    settings = json.dumps(record.config.adapter, sort_keys=True, default=str)
    size = record.size
    key = (record.method, size.field if size else "", size.value if size else 0.0, settings)
    return rows.setdefault(key, Row(record.method, size, settings))


def _cost_records(folder: Path) -> tuple[list[CostRecord], list[tuple[Path, str]]]:
    found, unreadable = [], []
    for path in _cost_files(folder):
        try:
            found.append(msgspec.convert(load_json(path), CostRecord))
        except (OSError, ValueError, OverflowError) as error:
            unreadable.append((path, f"it is no record of costs: {first_line(error)}"))
    return found, unreadable


def _cost_files(folder: Path) -> Iterator[Path]:
    """Those within the folder: a link may lead out of it."""
    return (path for path in sorted(folder.glob(f"*/*/*/{FILE}")) if inside(folder, path) is not None)
