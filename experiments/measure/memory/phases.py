"""What a prediction gives: the phases of a run with their timelines, and what was assumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.measure.memory.device_rules import CPU, DeviceRules
from experiments.measure.memory.frozen_weights import DTYPES
from experiments.measure.memory.trace import StepTrace, Timeline
from tasks.base import When


@dataclass(frozen=True)
class Phase:
    """A part of a run: its timeline, the FLOPs of one of its calls (or steps) and how many there are.

    `when` is that of its `EvaluationCall`. The number of training steps is not known here: their `count` is 1. A step's
    optimizer begins at event `update`; if the step was traced at another batch size (`traced`), `exact` has the sizes
    there, not rounded.
    """

    name: str
    timeline: Timeline = field(repr=False)
    flops: int
    count: int = 1
    when: When = "training"
    update: int = 0
    traced: int | None = None
    exact: Timeline | None = field(default=None, repr=False)

    @property
    def peak(self) -> int:
        return self.timeline.peak


@dataclass(frozen=True)
class Prediction:
    """The phases of a run, training first; the run needs the largest of their peaks."""

    phases: tuple[Phase, ...]
    frozen_parts: Mapping[str, int]  # bytes of the task's other frozen models that are on the device in training
    trainable: int  # number of parameters
    total: int
    files: Mapping[str, int]  # bytes of the adapter files that a run writes, by name
    shapes: Mapping[str, Any]  # the base and the input shapes, from the meta model's facts
    notes: tuple[str, ...]
    fragmentation: float  # the meta model's allowance

    @property
    def training(self) -> Phase:
        return self.phases[0]

    @property
    def largest(self) -> Phase:
        return max(self.phases, key=lambda phase: phase.peak)

    @property
    def evaluation(self) -> Phase | None:
        """The phase with the largest peak apart from training; None if the task does not describe its evaluation."""
        return max(self.phases[1:], key=lambda phase: phase.peak, default=None)

    @property
    def peak(self) -> int:
        return self.largest.peak


@dataclass(frozen=True)
class Assumptions:
    """What a prediction assumes beside the configuration: the device, attention's kernels."""

    rules: DeviceRules = CPU
    fused_attention: bool = True

    @contextmanager
    def imitated(self, tracker: StepTrace) -> Iterator[None]:
        """A context in which operations are those of the device, and tracked."""
        with ExitStack() as stack:
            for context in (self.rules.imitate(self.fused_attention), attention_kernels(self.fused_attention), tracker):
                stack.enter_context(context)
            yield


def autocast(precision: str) -> torch.autocast:
    return torch.autocast("cpu", DTYPES.get(precision, torch.float32), enabled=precision != "no")


def attention_kernels(fused: bool) -> Any:
    """A context that selects the kernels of scaled_dot_product_attention: fused if possible, else plain products."""
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH] if fused else [SDPBackend.MATH])
