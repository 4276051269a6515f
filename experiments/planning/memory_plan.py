"""Predict the memory of a run, and which GPUs it fits, from configuration alone: no weights, no data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from adapters.bounds import bounded
from experiments.config import ResolvedTrain, RunConfig
from experiments.errors import check_numbers
from experiments.planning.cards import card_of, usable

if TYPE_CHECKING:
    from experiments.measure.memory.by_batch import TrainingByBatch
    from experiments.measure.memory.phases import Assumptions, Prediction

GIB = 2**30
CARDS = (8, 12, 16, 24, 40, 80)  # GPU memory as sold, in GB


def smallest_card(needed: float) -> int | None:
    """GB of the smallest of CARDS with so many usable GiB."""
    return next((card for card in CARDS if needed <= usable(card)), None)


@dataclass(frozen=True)
class PlanSettings:
    """What a plan assumes about the device."""

    attention: Literal["fused", "math"] = "fused"
    """Attention kernels: "fused" (flash or memory-efficient), or "math", which materialises every score."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Device of the run: its default precision, autocast's fp32 list, AdamW's temporary copies, the allocator's
    rounding. The allowances below are for CUDA."""
    context: float = bounded(0.5, at_least=0, at_most=1000)
    """Allowance in GiB for the CUDA context and kernels."""
    workspaces: float = bounded(0.25, at_least=0, at_most=1000)
    """Allowance in GiB for the workspaces of cuBLAS and cuDNN."""
    fragmentation: float | None = bounded(None, at_least=0, below=1)
    """Allowance for fragmentation, as a share of the peak. Default: 0.09 for language models, 0.05 for pictures."""
    card: str | None = None
    """The GPU: a name such as a100-80gb, rtx-4090 or t4, or its memory in GB. The plan says what to change to fit it
    and, if the card's rate is known, how long a step takes; on a card without bf16 the default precision is fp16."""

    @property
    def half(self) -> Literal["bf16", "fp16"] | None:
        """The 16-bit dtype that is the default on the card; None if unknown."""
        return None if self.card is None else card_of(self.card).half


@dataclass(frozen=True)
class Plan:
    """A resolved configuration, the assumptions, and the predicted memory of the run."""

    config: RunConfig
    settings: PlanSettings
    prediction: Prediction = field(repr=False)

    @property
    def needed(self) -> float:
        """GiB that the device must have: the largest predicted peak plus the allowances."""
        return self.with_allowances(self.prediction.peak) / GIB

    @property
    def fragmentation(self) -> float:
        """The allowance as a share of the peak."""
        if self.settings.device == "cpu":
            return 0.0
        given = self.settings.fragmentation
        return self.prediction.fragmentation if given is None else given

    @property
    def fixed(self) -> float:
        """Bytes of the allowances that do not depend on the peak."""
        return 0.0 if self.settings.device == "cpu" else (self.settings.context + self.settings.workspaces) * GIB

    def with_allowances(self, peak: float) -> float:
        """Bytes that a peak of so many bytes needs."""
        return peak * (1 + self.fragmentation) + self.fixed

    @property
    def train(self) -> ResolvedTrain:
        """The settings of the step."""
        return ResolvedTrain.of_steps(self.config.train, 1)

    @property
    def evaluation_peak(self) -> int:
        """Bytes; 0 if the task does not describe its evaluation."""
        evaluation = self.prediction.evaluation
        return 0 if evaluation is None else evaluation.peak

    @property
    def smallest_card(self) -> int | None:
        """GB of the smallest of CARDS that it fits."""
        return smallest_card(self.needed)

    @cached_property
    def by_batch(self) -> TrainingByBatch:
        """The training step at any batch size."""
        from experiments.measure.memory.by_batch import TrainingByBatch

        return TrainingByBatch(self.config, assumptions_of(self.settings), self.prediction.training)

    def needed_at(self, batch: int) -> float:
        """GiB that the device must have with another batch size."""
        return self.with_allowances(max(self.by_batch.peak(batch), self.evaluation_peak)) / GIB

    def largest_batch(self, memory: float) -> int:
        """The largest batch that fits a device with so many GiB; 0 if not even one item does, or the evaluation."""
        limit = (memory * GIB - self.fixed) / (1 + self.fragmentation)
        return self.by_batch.largest(limit) if self.evaluation_peak <= limit else 0


def plan(
    config: RunConfig, settings: PlanSettings | None = None, say: Callable[[str], object] = lambda text: None
) -> Plan:
    """Predict the memory of a run; takes seconds, allocates nothing. `say` is called with progress.

    Settings that are open are those of a run on `settings.device`. Raises UsageError,
    AdapterError or TaskError if the run itself would.
    """
    from experiments.measure.memory.prediction import predict

    settings = settings or PlanSettings()
    config = resolved_for(config, settings.device, settings.half)
    check_numbers(settings)
    return Plan(config, settings, predict(config, assumptions_of(settings), say))


def resolved_for(
    config: RunConfig, device: Literal["cuda", "cpu"], half: Literal["bf16", "fp16"] | None = None
) -> RunConfig:
    """The configuration as it would be resolved on a device, also without that device and its packages here.

    `half` is the 16-bit dtype of the device, by default that of this machine's.
    """
    train = config.train
    here = replace(train, device=device, num_processes=1, optimizer="adamw")
    config = replace(config, train=here).resolved(half)
    return replace(config, train=replace(config.train, num_processes=train.num_processes, optimizer=train.optimizer))


def assumptions_of(settings: PlanSettings) -> Assumptions:
    from experiments.measure.memory.device_rules import DEVICE_RULES
    from experiments.measure.memory.phases import Assumptions

    return Assumptions(DEVICE_RULES[settings.device], settings.attention == "fused")
