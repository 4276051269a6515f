"""Benchmarks, as ratios on this machine: `python -m experiments.bench loop`, `python -m experiments.bench memory`.

`loop`: a step of the training loop beside a bare forward-backward-update step of the same modules on the same
batches, in interleaved rounds. The loop is to stay within 5 % of the bare step.

`memory`: the predicted peak of a training step beside that of the loop's real steps on the CPU, for the methods and
models of `memory_cases.json`. Every prediction is to be within 5 % of what our ledger and torch's profiler count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.cli.errors import command
from experiments.config import ResolvedTrain, RunConfig, Train
from experiments.errors import UsageError
from experiments.training.callbacks import Callback

MEMORY_CASES = Path(__file__).parent / "measure" / "memory_cases.json"
MIB = 2**20


def loop(method: str, task: str, rounds: int, steps: int) -> float:
    """The median over rounds of (seconds of `steps` loop steps) / (seconds of as many bare steps)."""
    from adapters.base import registry as adapters
    from experiments.session import attach, device_of
    from experiments.training.loop import Trainer
    from tasks.base import registry as tasks

    settings = Train(steps=steps, checkpointing_steps=10**9, validation_steps=10**9)
    config = RunConfig(adapters()[method](), tasks()[task](), settings).resolved()
    prepared = config.task.prepare(device_of(config))
    attachment = attach(config, prepared)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):  # the first round warms up
            own = Path(folder) / str(number)  # a finished training's checkpoint would leave nothing to do
            own.mkdir()
            trainer = Trainer(prepared, attachment, config.train, own)
            bare = _bare_seconds(prepared, attachment, trainer.settings)
            ours = _loop_seconds(trainer)
            if number:
                ratios.append(ours / bare)
                print(f"round {number}: bare step {1000 * bare:.1f} ms, loop {1000 * ours:.1f} ms, {ours / bare:.3f}")
    attachment.detach()
    return statistics.median(ratios)


def _bare_seconds(prepared, attachment, settings: ResolvedTrain) -> float:
    """Median seconds of forward, backward, clipping and AdamW, with nothing around them."""
    import torch

    owned = list(attachment.parameters().values())
    optimizer = torch.optim.AdamW(owned, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    prepared.backbone.model.train()
    seconds = []
    batches = prepared.batches(settings.seed, 0, settings.batch_size)
    for _ in range(settings.steps):
        began = time.perf_counter()
        prepared.loss(next(batches)).backward()
        torch.nn.utils.clip_grad_norm_(owned, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _loop_seconds(trainer) -> float:
    """Median seconds from one line of the step log to the next: all that the loop does between two steps."""
    marks: list[float] = []

    class Marks(Callback):
        def on_step(self, trainer, step, line) -> None:
            marks.append(time.perf_counter())

    trainer.callbacks.append(Marks())
    trainer.run()
    return statistics.median(b - a for a, b in itertools.pairwise(marks[:-1]))  # the last one also validates


def memory(models: list[str] | None, methods: list[str] | None) -> float:
    """Print a row a case; the largest deviation of a prediction from either measurement, as a share."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler says on the terminal when it starts and stops
    cases = json.loads(MEMORY_CASES.read_text())
    for given, known in ((models, cases["models"]), (methods, cases["methods"])):
        unknown = sorted(set(given or ()) - set(known))
        if unknown:
            raise UsageError(f"memory_cases.json has no '{unknown[0]}'; it has {', '.join(known)}")
    print(f"{'model':10} {'method':8} batch checkpointing {'predicted':>10} {'ledger':>8} {'profiler':>9} MiB")
    worst = 0.0
    for name in models or cases["models"]:
        for method, batch, checkpointing, predicted, found in _memory_rows(cases, name, methods or cases["methods"]):
            print(
                f"{name:10} {method:8} {batch:5} {'on' if checkpointing else 'off':13} {predicted / MIB:10.1f} "
                f"{found.peak / MIB:8.1f} {found.profiler_peak / MIB:9.1f}  {predicted / found.profiler_peak - 1:+.2%}",
                flush=True,
            )
            worst = max(worst, *(abs(predicted / peak - 1) for peak in (found.peak, found.profiler_peak)))
    return worst


def _memory_rows(cases: Mapping[str, Any], name: str, methods: list[str]) -> Iterator[tuple]:
    """Method, batch, checkpointing, predicted bytes (the trained model's alone) and the measurement, of one model."""
    import torch

    from adapters.base import registry as adapters
    from experiments.measure.memory_prediction import predict
    from experiments.measure.memory_validation import RandomWeights, measure
    from tasks.base import registry as tasks

    model = cases["models"][name]
    task = tasks()[model["task"]](**model["settings"])
    prepared = RandomWeights(task.meta_model()) if model["random_weights"] else task.prepare(torch.device("cpu"))
    variants: Any = itertools.product(methods, cases["batches"], cases["checkpointing"])
    for method, batch, checkpointing in variants:
        settings = Train(batch_size=batch, gradient_checkpointing=checkpointing, device="cpu")
        config = RunConfig(adapters()[method](), task, settings).resolved()
        predicted = sum(predict(config).categories.values())
        yield method, batch, checkpointing, predicted, measure(config, prepared)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.bench", description=__doc__)
    parser.add_argument("what", choices=["loop", "memory"])
    parser.add_argument("--models", nargs="+", help="of memory_cases.json. Default: all")
    parser.add_argument("--methods", nargs="+", help="of memory_cases.json. Default: all")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--task", default="sd-pokemon")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.what == "memory":
        worst = memory(arguments.models, arguments.methods)
        print(f"the largest deviation of a predicted peak is {worst:.2%}")
        raise SystemExit(worst > 0.05)
    ratio = loop(arguments.method, arguments.task, arguments.rounds, arguments.steps)
    print(f"the loop's step takes {ratio:.3f} of a bare step (median of {arguments.rounds} rounds)")


if __name__ == "__main__":
    command(main)
