"""A step of the training loop beside a bare step (forward, backward, clipping, AdamW) of the same modules."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapters.base import Attachment
from experiments.config import ResolvedTrain
from experiments.training.callbacks import Callback
from experiments.training.loop import Trainer
from tasks.base import PreparedTask

NEVER = 10**9  # steps
DEEP_BLOCKS = 21  # of 12 tensors, beside embeddings, positions and the final norm's two: 256


Clock = Callable[[], float]  # seconds
Typical = Callable[[Iterable[float]], float]


@dataclass(frozen=True)
class StepSeconds:
    """Seconds of a bare step and of a step of the loop, in one round."""

    bare: float
    loop: float


class StepTimes(Callback):
    """The clock after every step whose numbers were read."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.times: list[float] = []

    def on_step(self, trainer: Any, step: int, line: dict[str, Any]) -> None:
        self.times.append(self.clock())


def rounds_of_steps(
    prepared: PreparedTask,
    attachment: Attachment,
    settings: ResolvedTrain,
    rounds: int,
    clock: Clock = time.perf_counter,
    typical: Typical = statistics.median,
) -> Iterator[StepSeconds]:
    """Time both in rounds; a round before them warms up. `typical` makes one number of all steps of a round."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            round_folder = Path(folder) / str(number)  # a new one, since a finished training resumes at its end
            round_folder.mkdir()
            trainer = Trainer(prepared, attachment, settings, round_folder)
            seconds = StepSeconds(*(typical(steps(trainer, clock)) for steps in (_bare_seconds, _loop_seconds)))
            if number:
                yield seconds


def _bare_seconds(trainer: Trainer, clock: Clock) -> list[float]:
    """Seconds of forward, backward, clipping and AdamW alone, and of drawing the batch."""
    prepared, settings, owned = trainer.prepared, trainer.settings, list(trainer.owned.values())
    optimizer = torch.optim.AdamW(owned, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    prepared.backbone.model.train()
    batches = prepared.batches(settings.seed, 0, settings.batch_size)

    def step() -> None:
        prepared.loss(next(batches)).backward()
        torch.nn.utils.clip_grad_norm_(owned, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    def now() -> float:
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        return clock()

    times = [now()]
    for _ in range(settings.steps // trainer.readings.every):
        for _ in range(trainer.readings.every):
            step()
        times.append(now())
    return _differences(times, trainer.readings.every)


def _loop_seconds(trainer: Trainer, clock: Clock) -> list[float]:
    """Seconds from the end of one step to the end of the next: everything that the loop does in between.

    Steps that are read together end together. The first steps count memory, and the last one validates and saves.
    """
    steps = StepTimes(clock)
    trainer.callbacks.append(steps)
    trainer.run()
    every = trainer.readings.every
    return _differences(steps.times[every - 1 : -1 : every], every)


def _differences(times: Sequence[float], steps: int) -> list[float]:
    """Seconds per step between readings of the clock that are so many steps apart."""
    return [(b - a) / steps for a, b in itertools.pairwise(times)]


class DeepTask(PreparedTask):
    """A GPT-2 of 256 tensors, so narrow that a step is Python and calls of kernels, with next to no arithmetic."""

    train_items = 16

    def __init__(self, device: torch.device):
        from transformers import GPT2Config, GPT2LMHeadModel

        from tasks.language.model.backbone import CausalLanguageModel

        sizes: dict[str, Any] = {"vocab_size": 16, "n_positions": 8, "n_embd": 8, "n_layer": DEEP_BLOCKS, "n_head": 2}
        tokens: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
        model: Any = GPT2LMHeadModel(GPT2Config(**sizes, **tokens))
        self.backbone, self.facts = CausalLanguageModel(model.to(device)), {}
        self.input_ids = torch.arange(8, device=device)[None]

    def batches(self, seed: int, start: int, size: int) -> Iterator[Any]:
        return itertools.repeat(self.input_ids)

    def loss(self, batch: Any) -> torch.Tensor:
        return self.backbone.model(input_ids=batch, labels=batch).loss

    @torch.no_grad()
    def validation_loss(self) -> float:
        return float(self.loss(self.input_ids))

    def evaluate(self, output: Path | None = None):
        raise NotImplementedError("an untrained model of this shape has no quality")

    @property
    def evaluation_key(self) -> str:
        raise NotImplementedError("an untrained model of this shape has no quality")
