"""The cost of an adapter at inference: latency unmerged and merged against the base, switching, mixed batches."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from adapters.mixture import mixable, mixed
from experiments.measure.timing import Ratio, Variant, paired_ratio, time_call, time_interleaved

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.base import Attachment

State = Mapping[str, "Tensor"]


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
