"""How long runs will take: as runs with the same task took on this machine, or from their FLOPs."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.errors import AdapterError
from experiments.config import RunConfig, uses_cuda
from experiments.errors import UsageError
from experiments.planning.durations import SHARES, in_words
from experiments.records.provenance import processor
from tasks.errors import TaskError

WIDTH, LEAST_SECONDS = {"cpu": 1024, "cuda": 8192}, 0.1  # of the matrix product that measures the machine


@dataclass(frozen=True)
class Expected:
    """Seconds of a run; both bounds are the same where runs on this machine say it."""

    low: float
    high: float
    source: str


def expected_time(configs: Sequence[RunConfig], runs: Path, workers: int = 1) -> str | None:
    """A sentence about the time that resolved configurations take with so many at once; None if nothing is known."""
    finished = list(_finished(runs))
    estimates: dict[str, Expected | None] = {}
    total = []
    for config in configs:
        alike = replace(config, train=replace(config.train, seed=0, learning_rate=None))
        key = json.dumps(alike.as_record(), sort_keys=True, default=str)
        if key not in estimates:
            estimates[key] = _from_records(config, finished) or _from_operations(config)
        total.append(estimates[key])
    known = [each for each in total if each is not None]
    if not known or len(known) < len(total):
        return None
    low, high = (sum(getattr(each, bound) for each in known) / min(workers, len(known)) for bound in ("low", "high"))
    span = f"about {in_words(low)}" if low == high else f"roughly {in_words(low)} to {in_words(high)}"
    return f"{span} ({', '.join(dict.fromkeys(each.source for each in known))})"


def _finished(runs: Path) -> Iterator[dict[str, Any]]:
    """The records below `runs` of finished runs on this machine."""
    for file in runs.glob("*/*/*/result.json"):
        try:
            record = json.loads(file.read_text())
            host = record["host"]
            if record["status"] == "finished" and (host["processor"], host["cores"]) == (processor(), os.cpu_count()):
                yield record
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _from_records(config: RunConfig, finished: Iterable[dict[str, Any]]) -> Expected | None:
    """From runs with the same task and step; from those of the same method if there are any."""
    wanted = json.loads(json.dumps(config.as_record(), default=str))
    alike = [record for record in finished if _is_alike(record, wanted)]
    rows = [record for record in alike if record["config"]["adapter"] == wanted["adapter"]] or alike
    if not rows:
        return None
    steps = config.train.steps or rows[0]["training"]["steps"]
    seconds = [_seconds(record["seconds"], steps) for record in rows]
    middle = statistics.median(seconds)
    return Expected(middle, middle, "as finished runs took on this machine")


def _is_alike(record: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a step, the evaluation and, in epochs, the number of steps cost what they do in `wanted`."""
    same = ("batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "mixed_precision", "epochs")
    recorded = record["config"]
    return (
        {"step_median", "setup", "evaluate"} <= record["seconds"].keys()
        and recorded["task"] == wanted["task"]
        and all(recorded["train"].get(name) == wanted["train"][name] for name in same)
    )


def _seconds(recorded: dict[str, float], steps: int) -> float:
    return steps * recorded["step_median"] + recorded["setup"] + recorded["evaluate"]


def _from_operations(config: RunConfig) -> Expected | None:
    """From the FLOPs of the steps and of one or two evaluations, at the usual shares of this machine's rate."""
    from experiments.planning.memory_plan import PlanSettings, plan

    if config.train.steps is None:
        return None
    device = "cuda" if uses_cuda(config.train) else "cpu"
    try:
        prediction = plan(config, PlanSettings(device=device)).prediction
    except (TaskError, AdapterError, UsageError):  # a task that cannot be planned
        return None
    evaluation = sum(phase.flops * phase.count for phase in prediction.phases if phase.when == "evaluation")
    training, rate = config.train.steps * prediction.training.flops, product_rate(device)
    low, high = (training + evaluation) / SHARES[1] / rate, (training + 2 * evaluation) / SHARES[0] / rate
    return Expected(low, high, f"estimated: {100 * SHARES[0]:.0f} to {100 * SHARES[1]:.0f} % of the machine's FLOP/s")


def product_rate(device: str) -> float:
    """FLOP/s of a large matrix product on the device, in fp32 on a CPU and in bf16 on CUDA, beside what runs now."""
    import torch

    width = WIDTH[device]
    matrix = torch.ones(width, width, device=device, dtype=torch.float32 if device == "cpu" else torch.bfloat16)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    torch.mm(matrix, matrix)
    wait()
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < LEAST_SECONDS:
        torch.mm(matrix, matrix)
        wait()
        count += 1
    return 2 * width**3 * count / (time.perf_counter() - started)
