"""The only list of the costs in a record: the path, the unit, and the titles in tables and plots of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CostField:
    """One cost: its path in a record; its unit; its title; for comparison tables also a name and a column heading."""

    path: tuple[str, ...]
    unit: str = ""
    title: str = ""
    name: str = ""  # of the column in comparison tables, for those that have one
    heading: str = ""

    def read(self, record: Any) -> Any:
        return value_at(record, self.path)


def value_at(record: Any, path: Sequence[str]) -> Any:
    """The value at a path of attributes and keys; None if the record has none."""
    for name in path:
        record = record.get(name) if isinstance(record, Mapping) else getattr(record, name, None)
    return record


# by their column in `reports.frame`
COST_FIELDS: Mapping[str, CostField] = {
    "parameters.trainable": CostField(
        ("parameters", "trainable"), "", "trained parameters", "parameters", "trained\nparams"
    ),
    "parameters.total": CostField(("parameters", "total")),
    "adapter_bytes": CostField(("adapter_bytes",), "B", "adapter file", "adapter_bytes", "file"),
    "memory.peak_bytes": CostField(("memory", "peak_bytes"), "B", "peak memory", "memory_bytes", "peak\nmemory"),
    "flops.forward": CostField(("flops", "forward"), "FLOP", "forward operations per step"),
    "flops.backward": CostField(("flops", "backward"), "FLOP", "backward operations per step"),
    "flops.optimizer": CostField(("flops", "optimizer"), "FLOP", "optimizer operations per step"),
    "flops.total": CostField(("flops", "total"), "FLOP", "operations per step"),
    "seconds.setup": CostField(("seconds", "setup"), "s"),
    "seconds.train": CostField(("seconds", "train"), "s", "training time", "train_seconds", "train\ntime"),
    "seconds.evaluate": CostField(("seconds", "evaluate"), "s"),
    "seconds.total": CostField(("seconds", "whole"), "s", "total time", "total_seconds", "total\ntime"),
    "seconds.step_median": CostField(("seconds", "step_median"), "s", "median step time", "step_seconds", "step\ntime"),
    "samples_per_second": CostField(("throughput", "samples_per_second"), "", "samples per second"),
    "tokens_per_second": CostField(("throughput", "tokens_per_second"), "", "tokens per second"),
    "share_of_peak": CostField(("throughput", "share_of_peak"), "%", "share of the machine's peak"),
    "communication.predicted_bytes": CostField(("communication", "predicted_bytes"), "B"),
    "communication.measured_bytes": CostField(("communication", "measured_bytes"), "B"),
}
_IN_TABLES = ("parameters", "adapter_bytes", "train_seconds", "step_seconds", "total_seconds", "memory_bytes")
_BY_NAME = {field.name: field for field in COST_FIELDS.values()}
# the costs in comparison tables, by the name of their column and in order
COSTS: Mapping[str, CostField] = {name: _BY_NAME[name] for name in _IN_TABLES}
