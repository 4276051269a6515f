"""The peak of a training step for every batch size, from a single trace."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from experiments.config import RunConfig
from experiments.measure.memory.phases import Assumptions, Phase
from experiments.measure.memory.prediction import predict_gradients
from experiments.measure.memory.trace import Timeline

PRIMES = (61, 59, 53, 47, 43, 41, 37, 31)  # below 64, from which on diffusers copies a UNet's activations
LARGEST = 2**16


class TrainingByBatch:
    """A configuration's training step at any micro-batch size.

    Forward and backward passes are traced once, at a prime batch size that divides no dimension of the model or of the
    task's batches. What stands beside them, and the optimizer's update, are those of the predicted step.
    """

    def __init__(self, config: RunConfig, assumptions: Assumptions, step: Phase):
        self.granularity = assumptions.rules.granularity
        self.traced = unused_prime(config)
        exact = replace(assumptions, rules=replace(assumptions.rules, granularity=1))
        traced = replace(config, train=replace(config.train, batch_size=self.traced))
        self._gradients = predict_gradients(traced, exact)
        self._standing, self._update = step.timeline.until_start(), replace(step.timeline, start=step.update)

    def at(self, batch: int) -> Timeline:
        gradients = self._gradients.at_batch(batch, self.traced, self.granularity)
        return max(self._standing.then(gradients), self._update, key=lambda timeline: timeline.peak)

    def peak(self, batch: int) -> int:
        """Bytes at the peak."""
        return self.at(batch).peak

    def largest(self, limit: float) -> int:
        """The largest batch whose peak is at most `limit` bytes, at most LARGEST; 0 if there is none."""
        return bisect_left(range(1, LARGEST + 1), True, key=lambda batch: self.peak(batch) > limit)


def unused_prime(config: RunConfig) -> int:
    """A prime that divides no dimension of the model's weights or of a batch of one item."""
    meta_model = config.task.meta_model()
    tensors = [*meta_model.backbone.model.parameters(), *_tensors(meta_model.batch(1, torch.device("meta")))]
    dimensions = {dimension for tensor in tensors for dimension in tensor.shape}
    free = (prime for prime in PRIMES if all(dimension % prime for dimension in dimensions))
    return next(free, PRIMES[0])


def _tensors(batch: Any) -> Iterator[torch.Tensor]:
    """The tensors in a batch: a tensor, a mapping or an object with tensors as attributes."""
    if isinstance(batch, torch.Tensor):
        yield batch
        return
    parts = batch.values() if isinstance(batch, dict) else getattr(batch, "__dict__", {}).values()
    for part in parts:
        yield from _tensors(part)
