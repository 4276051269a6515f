"""Predict the memory of a training step, and which GPUs it fits, from configuration alone: no weights, no data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from adapters.bounds import bounded
from experiments.config import ResolvedTrain, RunConfig
from experiments.errors import UsageError, check_numbers

if TYPE_CHECKING:
    from experiments.measure.memory_prediction import Prediction

GIB = 2**30
CARDS = (8, 12, 16, 24, 40, 80)  # GPU memory as sold, in GB; within a few percent these are GiB


@dataclass(frozen=True)
class PlanSettings:
    """What a plan assumes about the device and the frozen weights."""

    weights: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Storage dtype of the frozen weights; the training loop stores fp32. A 16-bit dtype needs the same
    --train.mixed-precision."""
    attention: Literal["fused", "math"] = "fused"
    """Attention kernels: "fused" (flash or memory-efficient), or "math", which materialises every score."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Device whose rules apply: autocast's fp32 list, AdamW's temporary copies, the allocator's rounding."""
    context: float = bounded(0.75, at_least=0, at_most=1000)
    """Allowance in GiB for the CUDA context, kernels and the workspaces of cuBLAS and cuDNN."""
    fragmentation: float = bounded(0.05, at_least=0, below=1)
    """Allowance for fragmentation, as a share of the peak."""


@dataclass(frozen=True)
class Plan:
    """A resolved configuration, the assumptions, and the predicted memory of one training step."""

    config: RunConfig
    settings: PlanSettings
    prediction: Prediction = field(repr=False)

    @property
    def needed(self) -> float:
        """GiB that a GPU must have: the predicted peak plus the allowances."""
        return self.prediction.peak / GIB * (1 + self.settings.fragmentation) + self.settings.context

    @property
    def train(self) -> ResolvedTrain:
        """The settings of the step."""
        return ResolvedTrain.of_steps(self.config.train, 1)


def plan(config: RunConfig, settings: PlanSettings | None = None) -> Plan:
    """Predict the memory of one training step; takes seconds, allocates nothing.

    Raises UsageError if the dtypes contradict each other, AdapterError or TaskError if the run itself would.
    """
    from experiments.measure.device_rules import DEVICE_RULES
    from experiments.measure.memory_prediction import predict

    config, settings = config.resolved(), settings or PlanSettings()
    if settings.weights not in ("fp32", config.train.mixed_precision):
        raise UsageError(
            f"--weights {settings.weights} needs a computation in the same dtype: "
            f"add --train.mixed-precision {settings.weights}"
        )
    check_numbers(settings)
    prediction = predict(config, DEVICE_RULES[settings.device], settings.weights, settings.attention == "fused")
    return Plan(config, settings, prediction)


def largest_batches(first: Plan) -> dict[int, int]:
    """The largest batch that fits each of `CARDS`; 0 if not even one item does.

    The peak is the maximum, over the moments of a step, of sums that grow linearly with the batch. It is therefore
    convex in the batch, and interpolating between two predictions never promises too large a batch.
    """
    needs: dict[int, float] = {first.train.batch_size: first.needed}

    def need(batch: int) -> float:
        if batch not in needs:
            train = replace(first.config.train, batch_size=batch)
            needs[batch] = plan(replace(first.config, train=train), first.settings).needed
        return needs[batch]

    one, eight = need(1), need(8)
    per_item = max((eight - one) / 7, 1e-6)
    largest = max(16, int((CARDS[-1] - eight) / per_item) + 8)  # an estimate of what fills the largest card
    while need(largest) < CARDS[-1]:
        largest *= 2
    return {card: interpolate_batch(needs, card) for card in CARDS}


def interpolate_batch(needs: Mapping[int, float], limit: float) -> int:
    """The largest batch that needs at most `limit`, by linear interpolation of `needs` (GiB by batch)."""
    batches = sorted(needs)
    small_enough = [batch for batch in batches if needs[batch] <= limit]
    if not small_enough:
        return 0
    low = small_enough[-1]
    high = batches[batches.index(low) + 1]
    return low + int((limit - needs[low]) / (needs[high] - needs[low]) * (high - low))
