"""Floating-point operations of a training step, its duration, and the share of the machine's peak that it reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode, mm_flop, sdpa_backward_flop_count, sdpa_flop_count

from experiments.measure.timing import time_call

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

Shape = torch.Size
aten: Any = torch.ops.aten


def attention_forward(query: Shape, key: Shape, value: Shape, *args: Any, **kwargs: Any) -> int:
    """Two products, scores and weighted values; shapes are (batch, heads, positions, width)."""
    return sdpa_flop_count(query, key, value)


def attention_backward(gradient: Shape, query: Shape, key: Shape, value: Shape, *args: Any, **kwargs: Any) -> int:
    """Five products: the fused kernel recomputes the scores."""
    return sdpa_backward_flop_count(gradient, query, key, value)


def integer_product(first: Shape, second: Shape, *args: Any, **kwargs: Any) -> int:
    """As for a product of floating-point matrices."""
    return mm_flop(first, second)


# torch counts nothing for the CPU's fused attention, and nothing for products of 8-bit integers
FORMULAS: Mapping[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: attention_forward,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
    aten._int_mm: integer_product,
}

# Operations of torch's AdamW per trained parameter (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2)
ADAMW: Mapping[str, int] = {
    "weight decay: p *= 1 - lr * decay": 1,
    "first moment: m += (1 - b1) * (g - m)": 3,
    "second moment: v = b2 * v + (1 - b2) * g * g": 4,
    "denominator: sqrt(v) / correction + eps": 3,
    "update: p += -step * m / denominator": 3,
}

HOW = (
    "forward and backward: matrix products, convolutions and attention (torch's FlopCounterMode; a multiply-add is two "
    "operations, causal masks save none), elementwise operations are not counted; "
    f"optimizer: {sum(ADAMW.values())} per trained parameter (AdamW)"
)


@dataclass(frozen=True)
class StepFlops:
    """Floating-point operations of one optimizer step."""

    forward: int
    backward: int
    optimizer: int

    @property
    def total(self) -> int:
        return self.forward + self.backward + self.optimizer

    def as_record(self) -> dict[str, Any]:
        return asdict(self) | {"total": self.total, "how": HOW}


def count_step(loss: Callable[[], Tensor], trained: Iterable[nn.Parameter], accumulation: int = 1) -> StepFlops:
    """Count one optimizer step by running forward and backward once; `loss()` is the loss of a micro-batch.

    `accumulation` is the number of micro-batches per step. Recomputation under gradient checkpointing counts as
    backward. Changes no parameter and leaves no gradient.
    """
    trained = list(trained)
    with _counting() as counter:
        value = loss()
        forward = counter.get_total_flops()
        value.backward()
        backward = counter.get_total_flops() - forward
    for parameter in trained:
        parameter.grad = None
    return StepFlops(accumulation * forward, accumulation * backward, adamw_flops(sum(p.numel() for p in trained)))


def count_call(call: Callable[[], object]) -> int:
    """FLOPs of the products, convolutions and attention in a call without gradients."""
    with _counting() as counter:
        call()
    return counter.get_total_flops()


def _counting() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping=dict(FORMULAS))


def adamw_flops(parameters: int) -> int:
    """Elementwise operations of one AdamW step, by the formula `ADAMW`."""
    return parameters * sum(ADAMW.values())


@dataclass(frozen=True)
class Peak:
    """The fastest matrix product measured on this machine, in operations per second."""

    flops_per_second: float
    how: str


MATRIX_SIZE = {"cpu": 1024, "cuda": 8192}  # rows and columns; large enough to saturate the device
REPETITIONS = 10


@cache
def measured_peak(device_type: str, dtype: torch.dtype = torch.float32) -> Peak:
    """The best of `REPETITIONS` square matrix products; measured once per process."""
    size = MATRIX_SIZE.get(device_type, 1024)
    left, right = (torch.rand(size, size, device=device_type).to(dtype) for _ in range(2))
    seconds = min(time_call(lambda: left @ right, device_type) for _ in range(REPETITIONS))
    threads = f", {torch.get_num_threads()} threads" if device_type == "cpu" else ""
    kind = str(dtype).removeprefix("torch.")
    how = f"best of {REPETITIONS} products of two {size} x {size} {kind} matrices on {device_type}{threads}"
    return Peak(2 * size**3 / seconds, how)


@dataclass(frozen=True)
class Throughput:
    """The speed of training. `step_seconds` is the median of `n` steps, `low` and `high` are its quartiles."""

    step_seconds: float
    low: float
    high: float
    n: int
    samples_per_second: float
    tokens_per_second: float | None
    flops_per_second: float
    share_of_peak: float
    peak: Peak


def throughput(seconds: list[float], samples: int, tokens: int | None, flops: int, peak: Peak) -> Throughput:
    """Speed from the seconds of each step and a step's samples, tokens (None for a task without text) and FLOPs."""
    low, median, high = torch.tensor(seconds, dtype=torch.float64).quantile(torch.tensor([0.25, 0.5, 0.75]).double())
    step = median.item()
    return Throughput(
        step_seconds=step,
        low=low.item(),
        high=high.item(),
        n=len(seconds),
        samples_per_second=samples / step,
        tokens_per_second=None if tokens is None else tokens / step,
        flops_per_second=flops / step,
        share_of_peak=flops / step / peak.flops_per_second,
        peak=peak,
    )
