"""Peak memory of real training steps on the CPU, measured twice: by our tracker and by torch's profiler."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from experiments.config import RunConfig
from experiments.measure.memory import frozen_weights
from experiments.measure.memory.empty_model import make_empty
from experiments.session import reserve_and_attach
from experiments.training.loop import Trainer
from experiments.training.memory_tracker import MemoryTracker
from tasks.base import MetaModel, PreparedTask

STEPS = 2  # the first creates the optimizer state, the second starts with it


@dataclass(frozen=True)
class Measurement:
    """Bytes by category at the tracker's peak, and the profiler's peak, which has no categories."""

    categories: dict[str, int]
    profiler_peak: int

    @property
    def peak(self) -> int:
        return sum(self.categories.values())


def measure_peak(config: RunConfig, prepared: PreparedTask) -> Measurement:
    """Run the training loop's first steps on the CPU and measure their peak; restores the backbone afterwards."""
    attachment = reserve_and_attach(config, prepared)
    with TemporaryDirectory() as folder:
        trainer = Trainer(prepared, attachment, config.for_items(prepared.train_items), Path(folder))
        weights = storage_bytes([*trainer.loss_module.parameters(), *trainer.loss_module.buffers()])
        tracker = MemoryTracker()
        tracker.watch(trainer.loss_module, trainer.optimizer)
        cpu = [torch.profiler.ProfilerActivity.CPU]
        gc.collect()  # or what earlier work has left is freed while the profiler counts
        with torch.profiler.profile(activities=cpu, profile_memory=True) as profile, tracker:
            take_steps(trainer)
    tracker.unwatch()
    attachment.detach()
    return Measurement(tracker.peak, weights + profiled_peak(profile))


def storage_bytes(tensors: list[Tensor]) -> int:
    """Bytes of the tensors' storages, each storage counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def profiled_peak(profile: torch.profiler.profile) -> int:
    """The peak of the allocations that the profiler saw, above what was allocated before."""
    results: Any = profile.profiler
    records = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    records.sort(key=lambda record: record.start_ns())
    return max(accumulate(record.nbytes() for record in records))


def take_steps(trainer: Trainer) -> None:
    """The loop's first steps, without validation, log and checkpoint."""
    backbone = trainer.prepared.backbone
    backbone.model.train()
    backbone.set_gradient_checkpointing(trainer.settings.gradient_checkpointing)
    for step in range(STEPS):
        trainer.step(step)
    backbone.model.eval()


class RandomWeights(PreparedTask):
    """A task's meta model filled with random weights: real training steps of a base without its published weights.

    They are stored in `precision`, a dtype.
    """

    def __init__(self, meta_model: MetaModel, precision: str = "fp32"):
        self.meta_model, self.backbone, self.facts = meta_model, meta_model.backbone, meta_model.facts
        model = self.backbone.model
        make_empty(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.02)
            for buffer in model.buffers():
                buffer.zero_()
        frozen_weights.store(model, precision)

    def reserve_positions(self, count: int) -> None:
        self.meta_model.reserve_positions(count)

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
