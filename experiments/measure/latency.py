"""The cost of an adapter at inference: latency unmerged and merged against the base, switching, mixed batches.

The load of the machine varies, so every round measures all variants one after another, in rotating order, and ratios
are taken within the round.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from adapters.mixture import mixable, mixed
from experiments.measure.flops import time_call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from adapters.base import Attachment
    from tasks.base import PreparedTask

LEVEL = 0.95
# Merging rewrites every weight, so the first calls after it miss the caches, unlike those of a server
WARMUP_CALLS = 10  # untimed calls per variant and round
TIMED_CALLS = 10
State = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Variant:
    """One way to do the same work: `call` is timed inside `context`; entering and leaving the context is not timed."""

    call: Callable[[], object]
    context: Callable[[], AbstractContextManager] = nullcontext


@dataclass(frozen=True)
class Ratio:
    """Median over `n` rounds of one variant's seconds divided by another's, with a 95 % interval of the median."""

    median: float
    low: float
    high: float
    n: int


def time_interleaved(variants: Mapping[str, Variant], rounds: int, device_type: str) -> dict[str, list[float]]:
    """Seconds per call, by variant and round; each is the median of `TIMED_CALLS` calls."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            variant = variants[name]
            with variant.context(), torch.no_grad():
                for _ in range(WARMUP_CALLS):
                    variant.call()
                seconds[name].append(
                    statistics.median(time_call(variant.call, device_type) for _ in range(TIMED_CALLS))
                )
    return seconds


def paired_ratio(seconds: Sequence[float], reference: Sequence[float]) -> Ratio:
    """The ratio over paired rounds. Its interval is the sign test's, which assumes only that rounds are i.i.d."""
    ratios = sorted(a / b for a, b in zip(seconds, reference, strict=True))
    low, high = median_interval(len(ratios))
    return Ratio(statistics.median(ratios), ratios[low], ratios[high], len(ratios))


def median_interval(n: int) -> tuple[int, int]:
    """Indices, in sorted order, of the values that bound the median at `LEVEL`; the extremes if n < 6."""
    from scipy.stats import binom

    below = int(binom.ppf((1 - LEVEL) / 2, n, 0.5))  # P(X < below) <= 2.5 %
    index = max(0, below - 1)
    return index, n - 1 - index


@dataclass(frozen=True)
class Inference:
    """A forward pass of `items` items: seconds are medians over rounds, ratios are relative to the base model.

    `control` compares the base model with itself; smaller differences than its own are noise. For a method that cannot
    be merged, `merged` is None and so is the effect of merging on the output: the largest absolute difference, and the
    norm of the difference relative to the output's norm.
    """

    items: int
    base_seconds: float
    unmerged_seconds: float
    merged_seconds: float | None
    control: Ratio
    unmerged: Ratio
    merged: Ratio | None
    largest_difference: float | None
    relative_difference: float | None


def measure_inference(
    attachment: Attachment, forward: Callable[[], Tensor], items: int, mergeable: bool, rounds: int
) -> Inference:
    """Measure one attached adapter; `forward` computes the model's output, for the same input each time."""
    model = attachment.backbone.model
    device_type = next(model.parameters()).device.type
    model.eval()
    base = Variant(forward, attachment.disabled)
    variants = {"base": base, "unmerged": Variant(forward), "control": base}
    if mergeable:
        variants["merged"] = Variant(forward, lambda: merged(attachment))
    seconds = time_interleaved(variants, rounds, device_type)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: paired_ratio(values, seconds["base"]) for name, values in seconds.items()}
    largest, relative = merge_error(attachment, forward) if mergeable else (None, None)
    return Inference(
        items=items,
        base_seconds=medians["base"],
        unmerged_seconds=medians["unmerged"],
        merged_seconds=medians.get("merged"),
        control=ratios["control"],
        unmerged=ratios["unmerged"],
        merged=ratios.get("merged"),
        largest_difference=largest,
        relative_difference=relative,
    )


@contextmanager
def merged(attachment: Attachment) -> Iterator[None]:
    attachment.merge()
    try:
        yield
    finally:
        attachment.unmerge()


@torch.no_grad()
def merge_error(attachment: Attachment, forward: Callable[[], Tensor]) -> tuple[float, float]:
    """Difference between merged and unmerged output: the largest absolute value, and |difference| / |output| in
    Frobenius norms."""
    unmerged = forward().double()
    with merged(attachment):
        difference = forward().double() - unmerged
    return difference.abs().max().item(), (difference.norm() / unmerged.norm()).item()


@dataclass(frozen=True)
class Switch:
    """Loading another adapter onto the loaded base: bytes read, and seconds (median and quartiles of `n` loads)."""

    bytes: int
    seconds: float
    low: float
    high: float
    n: int


def measure_switch(attachment: Attachment, states: Sequence[State], rounds: int) -> Switch:
    """Load each of the states (on the CPU) in turn, `rounds` times; the last one stays loaded."""
    device_type = next(iter(attachment.parameters().values())).device.type
    seconds = [time_call(lambda s=state: attachment.load(s), device_type) for _ in range(rounds) for state in states]
    low, median, high = statistics.quantiles(seconds, n=4)
    size = sum(tensor.numel() * tensor.element_size() for tensor in states[0].values())
    return Switch(size, median, low, high, len(seconds))


@dataclass(frozen=True)
class MixedBatch:
    """A batch in which every item uses a different adapter: in one forward pass (None if the method cannot), or one by
    one with a switch before each. Ratios are relative to the same batch with a single adapter."""

    items: int
    adapters: int
    seconds: float | None
    ratio: Ratio | None
    one_by_one_seconds: float
    one_by_one: Ratio


def measure_mixed_batch(
    attachment: Attachment,
    forward: Callable[[], Tensor],
    forward_item: Callable[[int], Tensor],
    states: Sequence[State],
    rounds: int,
) -> MixedBatch:
    """Measure serving `len(states)` adapters. `forward` runs a batch with one item per state, `forward_item(i)` only
    item i of it."""
    device_type = next(iter(attachment.parameters().values())).device.type
    rows = list(range(len(states)))

    def one_by_one() -> None:
        for row in rows:
            attachment.load(states[row])
            forward_item(row)

    variants = {"one adapter": Variant(forward), "one by one": Variant(one_by_one)}
    if mixable(attachment):
        variants["mixed"] = Variant(forward, lambda: mixed(attachment, states, rows))
    seconds = time_interleaved(variants, rounds, device_type)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: paired_ratio(values, seconds["one adapter"]) for name, values in seconds.items()}
    return MixedBatch(
        items=len(rows),
        adapters=len(states),
        seconds=medians.get("mixed"),
        ratio=ratios.get("mixed"),
        one_by_one_seconds=medians["one by one"],
        one_by_one=ratios["one by one"],
    )


@dataclass(frozen=True)
class ModelInput:
    """The model's arguments for one of the task's own batches, so that inference is measured on real shapes."""

    model: Any
    args: tuple
    kwargs: dict[str, Any]
    items: int

    @classmethod
    def of(cls, prepared: PreparedTask, items: int, seed: int = 0) -> ModelInput:
        """Capture the arguments of the first model call that the loss of a training batch makes."""
        model, calls = prepared.backbone.model, list[tuple[tuple, dict]]()
        hook = model.register_forward_pre_hook(
            lambda module, args, kwargs: calls.append((args, kwargs)), with_kwargs=True, prepend=True
        )
        try:
            with torch.no_grad():
                prepared.loss(next(prepared.batches(seed, 0, items)))
        finally:
            hook.remove()
        args, kwargs = calls[0]
        return cls(model, args, kwargs, items)

    def forward(self) -> Tensor:
        """The model's output (logits or predicted noise), without the scalar loss that labels add in front of it."""
        output = self.model(*self.args, **self.kwargs)
        parts = output if isinstance(output, tuple) else output.to_tuple()
        return next(part for part in parts if isinstance(part, torch.Tensor) and part.ndim > 0)

    def item(self, index: int) -> ModelInput:
        """The input of one item; arguments without a batch dimension are unchanged."""

        def one(value: Any) -> Any:
            has_items = isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == self.items
            return value[index : index + 1] if has_items else value

        return ModelInput(self.model, tuple(map(one, self.args)), {k: one(v) for k, v in self.kwargs.items()}, 1)
