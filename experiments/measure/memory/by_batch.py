"""The peak of a training step for every batch size, from a single trace."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

from experiments.config import RunConfig
from experiments.measure.memory.phases import Assumptions, Phase
from experiments.measure.memory.prediction import predict_gradients
from experiments.measure.memory.trace import Timeline

LARGEST = 2**16


class TrainingByBatch:
    """A configuration's training step at any micro-batch size.

    A step that was traced at a prime batch size gives all others. Else its forward and backward passes are traced once
    more, at a prime one; the optimizer's state and update are those of the predicted step.
    """

    def __init__(self, config: RunConfig, assumptions: Assumptions, step: Phase):
        self.granularity = assumptions.rules.granularity
        self._step, self._exact, self._traced = step, step.exact, step.traced
        if self._exact is None:
            self._exact, self._traced = predict_gradients(config, assumptions)

    def at(self, batch: int) -> Timeline:
        assert self._exact is not None
        assert self._traced is not None
        timeline = self._exact.at_batch(batch, self._traced, self.granularity)
        if self._step.exact is not None:
            return timeline
        step = self._step.timeline
        candidates = step.until_start().then(timeline), replace(step, start=self._step.update)
        return max(candidates, key=lambda candidate: candidate.peak)

    def peak(self, batch: int) -> int:
        """Bytes at the peak."""
        return self.at(batch).peak

    def largest(self, limit: float) -> int:
        """The largest batch whose peak is at most `limit` bytes, at most LARGEST; 0 if there is none."""
        return bisect_left(range(1, LARGEST + 1), True, key=lambda batch: self.peak(batch) > limit)
