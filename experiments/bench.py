"""Benchmarks, as ratios on this machine: `python -m experiments.bench loop`, `python -m experiments.bench memory`.

`loop` compares a step of the training loop with a bare forward-backward-update step of the same modules on the same
batches, in interleaved rounds. The loop should stay within 5 % of the bare step, and with `--tiny` add at most 1,000
microseconds to it.

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
from experiments.errors import UsageError, did_you_mean
from experiments.precision import stored_in
from experiments.process.device import device_of
from tasks.base import task_registry

if TYPE_CHECKING:
    from experiments.measure.memory.validation import Measurement

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
    steps: int = bounded(40, at_least=40, at_most=NEVER)
    """Steps per round."""
    tiny: bool = False
    """A model of 256 trained tensors and next to no arithmetic, in place of method and task: what the loop adds to a
    step, in microseconds."""


@dataclass(frozen=True)
class MemoryOptions:
    """Compare predicted peak memory with two measurements of real steps. Exits with status 1 beyond 5 %."""

    models: tuple[str, ...] = ()
    """Models of memory_cases.json. Default: all."""
    methods: tuple[str, ...] = ()
    """Methods of memory_cases.json. Default: all."""


def main() -> None:
    name, options = parse_command(
        {"loop": LoopOptions, "memory": MemoryOptions}, sys.argv[1:], "python -m experiments.bench", __doc__
    )
    if name == "memory":
        deviation = bench_memory(options.models, options.methods)
        print(f"the largest deviation of a predicted peak is {deviation:.2%}")
        raise SystemExit(deviation > TOLERANCE)
    ratio = bench_tiny(options) if options.tiny else bench_loop(options)
    print(f"a step of the loop takes {ratio:.3f} times as long as a bare step (median of {options.rounds} rounds)")


def bench_loop(options: LoopOptions) -> float:
    """The median over rounds of (seconds per step of the loop) / (seconds per bare step)."""
    from experiments.measure.loop_speed import rounds_of_steps
    from experiments.session import reserve_and_attach

    train = Train(steps=options.steps, checkpointing_steps=NEVER, validation_steps=NEVER)
    adapter = registered(adapter_registry(), options.method, "method")()
    config = RunConfig(adapter, registered(task_registry(), options.task, "task")(), train).resolved()
    prepared = config.task.prepare(device_of(config))
    attachment = reserve_and_attach(config, prepared)
    ratios = []
    for seconds in rounds_of_steps(prepared, attachment, config.for_items(prepared.train_items), options.rounds):
        ratios.append(seconds.loop / seconds.bare)
        times = f"bare step {1000 * seconds.bare:.1f} ms, loop {1000 * seconds.loop:.1f} ms"
        print(f"round {len(ratios)}: {times}, {ratios[-1]:.3f}", flush=True)
    attachment.detach()
    return statistics.median(ratios)


def bench_tiny(options: LoopOptions) -> float:
    """As `bench_loop`, of a full fine-tuning that is all overhead; prints the loop's in microseconds per step.

    On a CPU these are of the process's own time, whatever else runs; each round's are of its fastest step.
    """
    import torch

    from experiments.measure.loop_speed import DeepTask, rounds_of_steps

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    prepared = DeepTask(device)
    attachment = adapter_registry()["full"]().attach(prepared.backbone)
    train = ResolvedTrain(steps=options.steps, checkpointing_steps=NEVER, validation_steps=NEVER)
    rounds = []
    for seconds in rounds_of_steps(prepared, attachment, train, options.rounds, clock, min):  # the least disturbed
        rounds.append(seconds)
        bare, more = 1e6 * seconds.bare, 1e6 * (seconds.loop - seconds.bare)
        print(f"round {len(rounds)}: bare step {bare:,.0f} us, the loop {more:+,.0f} us", flush=True)
    more = statistics.median(1e6 * (seconds.loop - seconds.bare) for seconds in rounds)
    print(f"{len(attachment.parameters())} trained tensors: the loop adds {more:,.0f} us to a step (median)")
    return statistics.median(seconds.loop / seconds.bare for seconds in rounds)


def bench_memory(models: Sequence[str], methods: Sequence[str]) -> float:
    """Print one row per case; returns the largest relative deviation of a prediction from either measurement."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler announces its start and end on the terminal
    cases = json.loads(MEMORY_CASES.read_text())
    for names, valid in ((models, cases["models"]), (methods, cases["methods"])):
        for name in names:
            if name not in valid:
                hint = did_you_mean(name, valid)
                raise UsageError(f"memory_cases.json has no '{name}'{hint}; choose from {', '.join(valid)}")
    print(
        f"{'model':10} {'method':10} precision batch checkpointing {'predicted':>10} {'tracker':>8} {'profiler':>9} MiB"
    )
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
    mixed_precision: str
    batch_size: int
    gradient_checkpointing: bool
    predicted: int
    measured: Measurement

    def text(self, model: str) -> str:
        tracker, profiler = self.measured.peak, self.measured.profiler_peak
        sizes = f"{self.predicted / MIB:10.1f} {tracker / MIB:8.1f} {profiler / MIB:9.1f}"
        checkpointing = "on" if self.gradient_checkpointing else "off"
        case = f"{model:10} {self.method:10} {self.mixed_precision:9} {self.batch_size:5} {checkpointing:13}"
        return f"{case} {sizes}  {self.predicted / profiler - 1:+.2%}"


def _memory_cases(cases: Mapping[str, Any], name: str, methods: Sequence[str]) -> Iterator[MemoryCase]:
    """All cases of one model."""
    import torch

    from experiments.measure.memory.prediction import predict
    from experiments.measure.memory.validation import RandomWeights, measure_peak

    model = cases["models"][name]
    task = task_registry()[model["task"]](**model["settings"])
    combinations = itertools.product(cases["precisions"], methods, cases["batches"], cases["checkpointing"])
    prepared, stored = None, None
    for precision, method, batch, checkpointing in combinations:
        train = Train(batch_size=batch, gradient_checkpointing=checkpointing, device="cpu", mixed_precision=precision)
        config = RunConfig(adapter_registry()[method](), task, train).resolved()
        if prepared is None or stored != stored_in(config.task):
            stored, cpu = stored_in(config.task), torch.device("cpu")
            random = model["random_weights"]
            prepared = RandomWeights(task.meta_model(), stored) if random else config.task.prepare(cpu)
        predicted = predict(config).training.peak
        measured = measure_peak(config, prepared)
        yield MemoryCase(method, precision, batch, checkpointing, predicted, measured)


if __name__ == "__main__":
    command(main)
