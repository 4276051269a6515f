"""Benchmarks, as ratios on this machine: `python -m experiments.bench loop`, `python -m experiments.bench memory`.

`loop` compares a step of the training loop with a bare forward-backward-update step of the same modules on the same
batches, in interleaved rounds. The loop should stay within 5 % of the bare step.

`memory` compares the predicted peak memory of a training step with that of the loop's real steps on the CPU, for the
methods and models of `memory_cases.json`. Every prediction should be within 5 % of what our tracker and torch's
profiler measure.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base import adapter_registry
from adapters.bounds import bounded
from experiments.cli.errors import command
from experiments.cli.parser import parse_command
from experiments.config import ResolvedTrain, RunConfig, Train, registered
from experiments.device import device_of
from experiments.errors import UsageError, did_you_mean
from experiments.training.callbacks import Callback
from tasks.base import task_registry

if TYPE_CHECKING:
    from adapters.base import Attachment
    from experiments.measure.memory.validation import Measurement
    from experiments.training.loop import Trainer
    from tasks.base import PreparedTask

MEMORY_CASES = Path(__file__).parent / "measure" / "memory_cases.json"
MIB = 2**20
TOLERANCE = 0.05
NEVER = 10**9  # steps


@dataclass(frozen=True)
class LoopOptions:
    """Compare a step of the training loop with a bare step of the same modules."""

    method: str = "lora"
    """Method to train."""
    task: str = "sd-pokemon"
    """Task to train on."""
    rounds: int = bounded(5, at_least=1, at_most=1000)
    """Rounds, in each of which both are timed."""
    steps: int = bounded(20, at_least=1, at_most=NEVER)
    """Steps per round."""


@dataclass(frozen=True)
class MemoryOptions:
    """Compare predicted peak memory with two measurements of real steps. Exits with status 1 beyond 5 %."""

    models: tuple[str, ...] = ()
    """Models of memory_cases.json. Default: all."""
    methods: tuple[str, ...] = ()
    """Methods of memory_cases.json. Default: all."""


class StepTimes(Callback):
    """The clock after every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step(self, trainer: Any, step: int, line: dict[str, Any]) -> None:
        self.times.append(time.perf_counter())


def main() -> None:
    name, options = parse_command(
        {"loop": LoopOptions, "memory": MemoryOptions}, sys.argv[1:], "python -m experiments.bench", __doc__
    )
    if name == "memory":
        deviation = bench_memory(options.models, options.methods)
        print(f"the largest deviation of a predicted peak is {deviation:.2%}")
        raise SystemExit(deviation > TOLERANCE)
    ratio = bench_loop(options.method, options.task, options.rounds, options.steps)
    print(f"a step of the loop takes {ratio:.3f} times as long as a bare step (median of {options.rounds} rounds)")


def bench_loop(method: str, task: str, rounds: int, steps: int) -> float:
    """The median over rounds of (seconds per step of the loop) / (seconds per bare step)."""
    from experiments.session import reserve_and_attach
    from experiments.training.loop import Trainer

    train = Train(steps=steps, checkpointing_steps=NEVER, validation_steps=NEVER)
    adapter = registered(adapter_registry(), method, "method")()
    config = RunConfig(adapter, registered(task_registry(), task, "task")(), train).resolved()
    prepared = config.task.prepare(device_of(config))
    attachment = reserve_and_attach(config, prepared)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):  # the first round warms up
            round_folder = Path(folder) / str(number)  # a new one, since a finished training resumes at its end
            round_folder.mkdir()
            trainer = Trainer(prepared, attachment, config.for_items(prepared.train_items), round_folder)
            bare = _bare_seconds(prepared, attachment, trainer.settings)
            loop = _loop_seconds(trainer)
            if number:
                ratios.append(loop / bare)
                print(f"round {number}: bare step {1000 * bare:.1f} ms, loop {1000 * loop:.1f} ms, {loop / bare:.3f}")
    attachment.detach()
    return statistics.median(ratios)


def _bare_seconds(prepared: PreparedTask, attachment: Attachment, settings: ResolvedTrain) -> float:
    """Median seconds of forward, backward, clipping and AdamW alone."""
    import torch

    owned = list(attachment.parameters().values())
    optimizer = torch.optim.AdamW(owned, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    prepared.backbone.model.train()
    seconds = []
    batches = prepared.batches(settings.seed, 0, settings.batch_size)
    for _ in range(settings.steps):
        start = time.perf_counter()
        prepared.loss(next(batches)).backward()
        torch.nn.utils.clip_grad_norm_(owned, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _loop_seconds(trainer: Trainer) -> float:
    """Median seconds from the end of one step to the end of the next: everything that the loop does in between."""
    clock = StepTimes()
    trainer.callbacks.append(clock)
    trainer.run()
    return statistics.median(b - a for a, b in itertools.pairwise(clock.times[:-1]))  # the last step also validates


def bench_memory(models: Sequence[str], methods: Sequence[str]) -> float:
    """Print one row per case; returns the largest relative deviation of a prediction from either measurement."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler announces its start and end on the terminal
    cases = json.loads(MEMORY_CASES.read_text())
    for names, valid in ((models, cases["models"]), (methods, cases["methods"])):
        for name in names:
            if name not in valid:
                hint = did_you_mean(name, valid)
                raise UsageError(f"memory_cases.json has no '{name}'{hint}; choose from {', '.join(valid)}")
    print(f"{'model':10} {'method':10} batch checkpointing {'predicted':>10} {'tracker':>8} {'profiler':>9} MiB")
    deviations = [0.0]
    for name in models or cases["models"]:
        for case in _memory_cases(cases, name, methods or cases["methods"]):
            print(case.text(name), flush=True)
            deviations += [abs(case.predicted / peak - 1) for peak in (case.measured.peak, case.measured.profiler_peak)]
    return max(deviations)


@dataclass(frozen=True)
class MemoryCase:
    """The predicted bytes of one training step (of the trained model alone), and the measurement."""

    method: str
    batch_size: int
    gradient_checkpointing: bool
    predicted: int
    measured: Measurement

    def text(self, model: str) -> str:
        tracker, profiler = self.measured.peak, self.measured.profiler_peak
        sizes = f"{self.predicted / MIB:10.1f} {tracker / MIB:8.1f} {profiler / MIB:9.1f}"
        checkpointing = "on" if self.gradient_checkpointing else "off"
        case = f"{model:10} {self.method:10} {self.batch_size:5} {checkpointing:13}"
        return f"{case} {sizes}  {self.predicted / profiler - 1:+.2%}"


def _memory_cases(cases: Mapping[str, Any], name: str, methods: Sequence[str]) -> Iterator[MemoryCase]:
    """All cases of one model."""
    import torch

    from experiments.measure.memory.prediction import predict
    from experiments.measure.memory.validation import RandomWeights, measure_peak

    model = cases["models"][name]
    task = task_registry()[model["task"]](**model["settings"])
    prepared = RandomWeights(task.meta_model()) if model["random_weights"] else task.prepare(torch.device("cpu"))
    combinations: Iterator[Any] = itertools.product(methods, cases["batches"], cases["checkpointing"])
    for method, batch, checkpointing in combinations:
        train = Train(batch_size=batch, gradient_checkpointing=checkpointing, device="cpu")
        config = RunConfig(adapter_registry()[method](), task, train).resolved()
        predicted = predict(config).training.peak
        yield MemoryCase(method, batch, checkpointing, predicted, measure_peak(config, prepared))


if __name__ == "__main__":
    command(main)
