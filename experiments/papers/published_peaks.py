"""Published peaks of GPU memory in training, beside our predictions of the same configurations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.config import RunConfig, Train
from experiments.measure.memory.prediction import predict_training
from experiments.papers.parameter_counts import adapter_of
from experiments.planning.memory_plan import PlanSettings, assumptions_of, resolved_for
from tasks.base import task_registry

FILE = Path(__file__).with_name("published_peaks.json")
GB = 1e9  # bytes, as the sources count


def compare_peaks(say: Callable[[str], object] = lambda text: None) -> list[dict[str, Any]]:
    """A row for each published peak: the source, our peak of the step, their ratio, and what we say that is needed."""
    rows = json.loads(FILE.read_text())["peaks"]
    compared = []
    for number, row in enumerate(rows, start=1):
        say(f"{number} of {len(rows)}: {row['setting']}")
        compared.append(compare_peak(row))
    return compared


def compare_peak(row: Mapping[str, Any]) -> dict[str, Any]:
    """The source's figure beside the predicted peak of a training step, in GB of 1e9 bytes.

    `needed` adds the allowances of a plan; those sources that read the allocator do not count CUDA's context.
    """
    task = task_registry()[row["task"]](**row["task_settings"])
    config = resolved_for(RunConfig(adapter_of(row), task, Train(**row["train"])), "cuda")
    settings = PlanSettings(**row["plan"])
    peak = predict_training(config, assumptions_of(settings)).peak
    fragmentation = task.meta_model().fragmentation
    needed = peak * (1 + fragmentation) + (settings.context + settings.workspaces) * 2**30
    return {
        "setting": row["setting"],
        "published": row["published"],
        "predicted": peak / GB,
        "ratio": peak / GB / row["published"],
        "needed": needed / GB,
        "needed_ratio": needed / GB / row["published"],
        "source": row["source"],
        "note": row.get("note", ""),
    }


def peaks_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table, in GB; sources and notes below."""
    from tabulate import tabulate

    columns = ("setting", "published", "predicted", "ratio", "needed", "needed_ratio")
    headers = [
        "GB of 1e9 bytes", "published", "predicted\nstep", "step /\npublished", "with\nallowances",
        "with allowances /\npublished",
    ]  # fmt: skip
    table = tabulate([[row[name] for name in columns] for row in rows], headers, floatfmt=".2f")
    sources = [f"{row['setting']}: {row['source']}" + (f" ({row['note']})" if row["note"] else "") for row in rows]
    return "\n".join([table, *sources])
