"""Synthetic sweeps: records of a metric over learning rate and rank."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.reports.synthetic import figure, record, write

RATES, RANKS = (0.001, 0.01, 0.1), (1, 4, 16)


def grid_record(rank: float, rate: float, value: float | None, seed: int = 0, **fields: Any) -> dict[str, Any]:
    """A run of the metric "score"; failed if it has no value."""
    better = fields.pop("better", "lower")
    outcome: dict[str, Any] = {"metrics": {"score": figure(value or 0.0, better=better)}, "primary_metric": "score"}
    if value is None:
        outcome = {"status": "failed", "reason": "training diverged", "metrics": {}, "primary_metric": None}
    given: dict[str, Any] = {"fingerprint": f"{rank}-{rate}-{seed}"} | outcome | fields
    content = record("lora", rank, seed, **given)
    content["config"]["train"]["learning_rate"] = rate
    return content


def write_grid(runs: Path, value_of: Callable[[float, float], float | None], **fields: Any) -> None:
    """A run for each rank and rate."""
    for rank in RANKS:
        for rate in RATES:
            write(runs, grid_record(rank, rate, value_of(rank, rate), **fields))
