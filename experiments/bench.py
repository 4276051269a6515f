"""Benchmarks, as ratios on this machine: `python -m experiments.bench loop`.

`loop`: a step of the training loop beside a bare forward-backward-update step of the same modules on the same
batches, in interleaved rounds. The loop is to stay within 5 % of the bare step.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

from experiments.config import RunConfig, Train, command


def loop(method: str, task: str, rounds: int, steps: int) -> float:
    """The median over rounds of (seconds of `steps` loop steps) / (seconds of as many bare steps)."""
    from adapters.base import registry as adapters
    from experiments.run import attach, device_of
    from experiments.train import Trainer
    from tasks.base import registry as tasks

    settings = Train(steps=steps, checkpoint_every=10**9, validate_every=10**9)
    config = RunConfig(adapters()[method](), tasks()[task](), settings).resolved()
    prepared = config.task.prepare(device_of(config))
    attachment = attach(config, prepared)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):  # the first round warms up
            own = Path(folder) / str(number)  # a finished training's checkpoint would leave nothing to do
            own.mkdir()
            trainer = Trainer(prepared, attachment, config.train, own)
            bare = _bare_seconds(prepared, attachment, config.train)
            ours = _loop_seconds(trainer)
            if number:
                ratios.append(ours / bare)
                print(f"round {number}: bare step {1000 * bare:.1f} ms, loop {1000 * ours:.1f} ms, {ours / bare:.3f}")
    attachment.detach()
    return statistics.median(ratios)


def _bare_seconds(prepared, attachment, settings: Train) -> float:
    """Median seconds of forward, backward, clipping and AdamW, with nothing around them."""
    import torch

    from experiments.train import given

    owned = list(attachment.parameters().values())
    optimizer = torch.optim.AdamW(owned, lr=given(settings.learning_rate), weight_decay=settings.weight_decay)
    prepared.backbone.model.train()
    seconds = []
    batches = prepared.batches(settings.seed, 0, settings.batch)
    for _ in range(given(settings.steps)):
        began = time.perf_counter()
        prepared.loss(next(batches)).backward()
        torch.nn.utils.clip_grad_norm_(owned, settings.maximal_gradient_norm)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _loop_seconds(trainer) -> float:
    """Median seconds from one line of the step log to the next: all that the loop does between two steps."""
    marks = []
    after = trainer._after_step

    def marked(step, line, log, bar) -> None:
        after(step, line, log, bar)
        marks.append(time.perf_counter())

    trainer._after_step = marked
    trainer.run()
    return statistics.median(b - a for a, b in itertools.pairwise(marks[:-1]))  # the last one also validates


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.bench", description=__doc__)
    parser.add_argument("what", choices=["loop"])
    parser.add_argument("--method", default="lora")
    parser.add_argument("--task", default="sd-pokemon")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    ratio = loop(arguments.method, arguments.task, arguments.rounds, arguments.steps)
    print(f"the loop's step takes {ratio:.3f} of a bare step (median of {arguments.rounds} rounds)")


if __name__ == "__main__":
    command(main)
