"""How long runs will take: as finished runs took on this machine, or from their FLOPs."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.config import RunConfig, uses_cuda
from experiments.planning.cards import known_card
from experiments.planning.durations import SHARES, UNITS
from experiments.planning.installed_card import gpu_name
from experiments.process.openmp import threads as threads_here
from experiments.records.provenance import processor

WIDTH, LEAST_SECONDS = 1024, 0.1  # of the matrix product that measures a CPU
NEEDED = {"config", "device", "method", "seconds", "training"}
SAME_STEP = (
    "batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "mixed_precision", "compile", "optimizer",
    "ema_decay", "num_processes", "deterministic", "epochs",
)  # fmt: skip


@dataclass(frozen=True)
class Expected:
    """Seconds of a run; both bounds are the same if finished runs give them."""

    low: float
    high: float
    source: str


def expected_time(
    configs: Sequence[RunConfig], runs: Path, at_once: int = 1, threads: int | None = None, overwrite: bool = False
) -> str | None:
    """A sentence about the time that resolved configurations take; None if nothing is known.

    `at_once` is the number of runs that compute at a time without slowing each other down; each has `threads` threads
    of a CPU (default: this process's). With `overwrite` runs train even if another one has their training. An error
    here must not stop the runs.
    """
    trained, threads = None if overwrite else runs, threads or threads_here()
    try:
        return _sentence(configs, trained, list(_finished(runs)), at_once, threads)
    except Exception:  # a record of another program, or a step that cannot be computed without values
        return None


def _sentence(
    configs: Sequence[RunConfig], trained: Path | None, finished: Sequence[dict[str, Any]], at_once: int, threads: int
) -> str | None:
    """`trained` is the folder of runs whose trainings are used again."""
    estimates: dict[str, Expected | None] = {}
    total = []
    for config in configs:
        if trained is not None and (alone := _of_evaluation(config, trained, threads)):
            total.append(alone)
            continue
        alike = replace(config, train=replace(config.train, seed=0, learning_rate=None))
        key = json.dumps(alike.as_record(), sort_keys=True, default=str)
        if key not in estimates:
            estimates[key] = _from_records(config, finished, threads) or _from_operations(config, threads)
        total.append(estimates[key])
    known = [each for each in total if each is not None]
    if not known or len(known) < len(total):
        return None
    low, high = (sum(getattr(each, bound) for each in known) / min(at_once, len(known)) for bound in ("low", "high"))
    span = f"about {in_words(low)}" if low == high else f"roughly {in_words(low)} to {in_words(high)}"
    return f"{span} ({'; '.join(dict.fromkeys(each.source for each in known))})"


def in_words(seconds: float) -> str:
    """Two digits or so, since more are not known."""
    for unit, scale in UNITS:
        if seconds >= scale >= 60:
            return f"{seconds / scale:.1f} {unit}"
    return f"{max(1, round(seconds))} s"


def _finished(runs: Path) -> Iterator[dict[str, Any]]:
    """The records below `runs` of finished runs on this machine."""
    for file in runs.glob("*/*/*/result.json"):
        try:
            record = json.loads(file.read_text())
            host = record["host"]
            here = (host["processor"], host["cores"]) == (processor(), os.cpu_count())
            if here and record["status"] == "finished" and record.keys() >= NEEDED:
                yield record
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _from_records(config: RunConfig, finished: Iterable[dict[str, Any]], threads: int) -> Expected | None:
    """From the runs that differ least: the same adapter, else the same method, else another method."""
    wanted = json.loads(json.dumps(config.as_record(), default=str))
    alike = [record for record in finished if _is_alike(record, wanted) and _is_device_of(config, record)]
    label = config.adapter.label
    same_adapter = [record for record in alike if record["config"]["adapter"] == wanted["adapter"]]
    same_method = [record for record in alike if record["method"] == label]
    others = ", ".join(sorted({record["method"] for record in alike}))
    for records, source in (
        (same_adapter, "as finished runs took on this machine"),
        (same_method, f"as finished runs of {label} with other settings took on this machine"),
        (alike, f"as finished runs of {others} took on this machine; there is none of {label}"),
    ):
        if records:
            middle = statistics.median(_seconds(record, config, threads) for record in records)
            return Expected(middle, middle, source)
    return None


def _of_evaluation(config: RunConfig, runs: Path, threads: int) -> Expected | None:
    """The time of a run that loads the training of another one."""
    from experiments.records.folder import RunFolder
    from experiments.records.shared_training import trained_before

    source = trained_before(config, RunFolder.of(runs, config))
    record = None if source is None else source.result()
    if record is None:
        return None
    seconds = _on_threads(record["seconds"]["setup"] + record["seconds"]["evaluate"], record, config, threads)
    return Expected(seconds, seconds, "already trained: set-up and evaluation as in the finished run")


def _is_alike(record: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a step, the evaluation and, in epochs, the number of steps take as long as in `wanted`."""
    recorded, steps = record["config"], wanted["train"]
    names = SAME_STEP if steps["epochs"] is None else (*SAME_STEP, "validation_steps")
    return (
        {"train", "step_median", "setup", "evaluate"} <= record["seconds"].keys()
        and recorded["task"] == wanted["task"]
        # a setting that an older record lacks was off
        and all((recorded["train"].get(name) or None) == (steps[name] or None) for name in names)
    )


def _is_device_of(config: RunConfig, record: Mapping[str, Any]) -> bool:
    if not uses_cuda(config.train):
        return record["device"] == "cpu"
    return record["device"].startswith("cuda") and (record["host"].get("card") or "").startswith(gpu_name() or "")


def _seconds(record: Mapping[str, Any], config: RunConfig, threads: int) -> float:
    """The run's time with this number of steps and validations, and with these threads on a CPU.

    What training took beyond its median steps is ascribed to its validations.
    """
    seconds, recorded = record["seconds"], record["config"]["train"]
    training = seconds["train"]
    if config.train.steps is not None:
        before, steps = record["training"]["steps"], config.train.steps
        between = max(0.0, training - before * seconds["step_median"])
        validations = _validations(steps, config.train.validation_steps)
        training = steps * seconds["step_median"]
        training += between * validations / max(1, _validations(before, recorded["validation_steps"]))
    return _on_threads(seconds["setup"] + training + seconds["evaluate"], record, config, threads)


def _on_threads(seconds: float, record: Mapping[str, Any], config: RunConfig, threads: int) -> float:
    """The time that a record has, with these threads on a CPU."""
    return seconds if uses_cuda(config.train) else seconds * _threads(record["host"]) / threads


def _validations(steps: int, between: int | None) -> int:
    """How often a training computes its validation loss: every so many steps, and at the end."""
    return -(-steps // between) if between else 0


def _threads(host: Mapping[str, Any]) -> int:
    """The threads of a recorded run; older records do not have them."""
    return host.get("threads") or host["cores"]


def _from_operations(config: RunConfig, threads: int) -> Expected | None:
    """From the FLOPs of the steps and of one or two evaluations, at the usual shares of the machine's rate."""
    from experiments.planning.run_flops import run_flops

    rate = None if config.train.steps is None else _rate(config, threads)
    if config.train.steps is None or rate is None:
        return None
    flops, (owner, flops_per_second) = run_flops(config), rate
    training = config.train.steps * flops.step
    low = (training + flops.evaluation) / SHARES[1] / flops_per_second
    high = (training + 2 * flops.evaluation) / SHARES[0] / flops_per_second
    source = f"estimated: {100 * SHARES[0]:.0f} to {100 * SHARES[1]:.0f} % of {owner} FLOP/s"
    return Expected(low, high, source)


def _rate(config: RunConfig, threads: int) -> tuple[str, float] | None:
    """Whose rate it is, and FLOP/s: published for a GPU, which a measurement would take memory from."""
    if not uses_cuda(config.train):
        import torch

        return "the machine's", product_rate() * threads / torch.get_num_threads()
    name = gpu_name()
    card = None if name is None else known_card(name)
    known = None if card is None else card.rate(config.train.mixed_precision or "no")
    return None if card is None or known is None else (f"the {card.name}'s", known[1])


def product_rate() -> float:
    """FLOP/s of a large fp32 matrix product on the CPU with this process's threads, beside what runs now."""
    import torch

    matrix = torch.ones(WIDTH, WIDTH)
    torch.mm(matrix, matrix)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < LEAST_SECONDS:
        torch.mm(matrix, matrix)
        count += 1
    return 2 * WIDTH**3 * count / (time.perf_counter() - started)
