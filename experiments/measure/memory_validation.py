"""Peak memory of real training steps on the CPU, counted twice: by our ledger, and by torch's profiler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from experiments.config import RunConfig
from experiments.measure.memory_prediction import STEPS, make_empty
from experiments.measure.memory_tracker import MemoryTracker
from experiments.session import attach
from experiments.training.loop import Trainer
from tasks.base import MetaModel, PreparedTask


@dataclass(frozen=True)
class Measurement:
    """Bytes by category at the ledger's peak, and the profiler's own peak, which knows no categories."""

    categories: dict[str, int]
    profiler_peak: int

    @property
    def peak(self) -> int:
        return sum(self.categories.values())


def measure(config: RunConfig, prepared: PreparedTask) -> Measurement:
    """The peak of the first steps of the training loop itself, on the CPU; the backbone is given back as it was."""
    attachment = attach(config, prepared)
    with TemporaryDirectory() as folder:
        trainer = Trainer(prepared, attachment, config.train, Path(folder))
        weights = bytes_of([*trainer.loss_module.parameters(), *trainer.loss_module.buffers()])
        ledger = MemoryTracker()
        ledger.watch(trainer.loss_module, trainer.optimizer)
        cpu = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=cpu, profile_memory=True) as profile, ledger:
            train(config, trainer, prepared)
    ledger.unwatch()
    attachment.detach()
    return Measurement(ledger.peak, weights + profiled_peak(profile))


def bytes_of(tensors: list[Tensor]) -> int:
    """Of their storages, each counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def profiled_peak(profile: torch.profiler.profile) -> int:
    """The largest sum of what the allocator reported to the profiler, above what was there before."""
    results: Any = profile.profiler
    records = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    records.sort(key=lambda record: record.start_ns())
    return max(accumulate(record.nbytes() for record in records))


def train(config: RunConfig, trainer: Trainer, prepared: PreparedTask) -> None:
    """The loop's first steps, without its validation."""
    model = prepared.backbone.model
    model.train()
    prepared.backbone.set_gradient_checkpointing(config.train.gradient_checkpointing)
    for step in range(STEPS):
        trainer.step(step)
    model.eval()


class RandomWeights(PreparedTask):
    """A task's meta_model with random weights: real steps of a base whose weights nobody has here."""

    def __init__(self, meta_model: MetaModel):
        self.meta_model, self.backbone, self.facts = meta_model, meta_model.backbone, meta_model.facts
        model = self.backbone.model
        make_empty(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.02)
            for buffer in model.buffers():
                buffer.zero_()

    def batches(self, seed: int, start: int, size: int) -> Iterator[Any]:
        while True:
            yield self.meta_model.batch(size, torch.device("cpu"))

    def loss(self, batch: Any) -> Tensor:
        return self.meta_model.loss(batch)

    def validation_loss(self) -> float:
        raise NotImplementedError("random weights have no quality")

    def evaluate(self, output: Path | None = None):
        raise NotImplementedError("random weights have no quality")

    @property
    def evaluation_key(self) -> str:
        raise NotImplementedError("random weights have no quality")
