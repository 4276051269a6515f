"""What an adapter costs at inference: unmerged, merged and the base model, in interleaved rounds; and what a switch of
adapters costs.

Other work on the machine comes and goes, so every round measures all variants one after another, in an order that
turns, and their ratio is taken within the round.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from experiments.measure.flops import timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from adapters.base import Attachment
    from tasks.base import PreparedTask

LEVEL = 0.95
# Merging rewrites every weight: the first calls after it find them in no cache, and are not what a server sees
WARM_UP = 10  # calls of a variant in a round that are not timed
CALLS = 10  # and that are
State = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Variant:
    """One way to do the work: `call` is timed within `context`, entering and leaving which is not."""

    call: Callable[[], object]
    context: Callable[[], AbstractContextManager] = nullcontext


@dataclass(frozen=True)
class Ratio:
    """The median over `n` rounds of one variant's seconds over another's, with a 95 % interval of the median."""

    median: float
    low: float
    high: float
    n: int


def interleaved(variants: Mapping[str, Variant], rounds: int, device_type: str) -> dict[str, list[float]]:
    """Seconds of a call by variant and round: in each, the median of `CALLS`."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            variant = variants[name]
            with variant.context(), torch.no_grad():
                for _ in range(WARM_UP):
                    variant.call()
                seconds[name].append(statistics.median(timed(variant.call, device_type) for _ in range(CALLS)))
    return seconds


def ratio(seconds: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Of paired rounds. The interval is the sign test's: it assumes nothing of the noise but that rounds are alike."""
    ratios = sorted(a / b for a, b in zip(seconds, reference, strict=True))
    low, high = median_interval(len(ratios))
    return Ratio(statistics.median(ratios), ratios[low], ratios[high], len(ratios))


def median_interval(n: int) -> tuple[int, int]:
    """Places, in order of size, of the values that bound the median at the level; below 6 values those at the ends."""
    from scipy.stats import binom

    below = int(binom.ppf((1 - LEVEL) / 2, n, 0.5))  # P(X < below) <= 2.5 %
    place = max(0, below - 1)
    return place, n - 1 - place


@dataclass(frozen=True)
class Inference:
    """A forward pass of `items` items; seconds are medians over rounds, ratios those to the base model.

    `control` is the base model against itself, measured as the others are: what differs less than it cannot be told.
    `merged` is None where the method cannot be merged, and so are the differences that merging makes to the output:
    the largest one, and the norm of all over the output's norm.
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


def inference(attachment: Attachment, forward: Callable[[], Tensor], items: int, mergeable: bool, rounds: int):
    """Measure one attached adapter; `forward` gives the model's output for the same input each time."""
    model = attachment.backbone.model
    device_type = next(model.parameters()).device.type
    model.eval()
    base = Variant(forward, attachment.disabled)
    variants = {"base": base, "unmerged": Variant(forward), "control": base}
    if mergeable:
        variants["merged"] = Variant(forward, lambda: merged(attachment))
    seconds = interleaved(variants, rounds, device_type)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: ratio(values, seconds["base"]) for name, values in seconds.items()}
    return Inference(
        items,
        middle["base"],
        middle["unmerged"],
        middle.get("merged"),
        ratios["control"],
        ratios["unmerged"],
        ratios.get("merged"),
        *(merge_error(attachment, forward) if mergeable else (None, None)),
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
    """How far the merged model's output is from the unmerged one's: the largest difference, and |difference| / |output|
    in Frobenius norms."""
    unmerged = forward().double()
    with merged(attachment):
        difference = forward().double() - unmerged
    return difference.abs().max().item(), (difference.norm() / unmerged.norm()).item()


@dataclass(frozen=True)
class Switch:
    """To another adapter of the method on the loaded base: the bytes that are read, and seconds (median, quartiles)."""

    bytes: int
    seconds: float
    low: float
    high: float
    n: int


def switch(attachment: Attachment, states: Sequence[State], rounds: int) -> Switch:
    """Load each of the states (on the CPU) in turn, `rounds` times; the last one stays."""
    device_type = next(iter(attachment.parameters().values())).device.type
    seconds = [timed(lambda s=state: attachment.load(s), device_type) for _ in range(rounds) for state in states]
    low, middle, high = statistics.quantiles(seconds, n=4)
    size = sum(tensor.numel() * tensor.element_size() for tensor in states[0].values())
    return Switch(size, middle, low, high, len(seconds))


@dataclass(frozen=True)
class MixedBatch:
    """A batch whose items each use another adapter: in one forward pass (None where the method cannot), or one by one,
    switching in between; ratios are those to the same batch with one adapter."""

    items: int
    adapters: int
    seconds: float | None
    ratio: Ratio | None
    one_by_one_seconds: float
    one_by_one: Ratio


def mixed_batch(
    attachment: Attachment,
    forward: Callable[[], Tensor],
    forward_item: Callable[[int], Tensor],
    states: Sequence[State],
    rounds: int,
) -> MixedBatch:
    """`forward` takes a batch of one item a state, `forward_item` one item of it by its index."""
    device_type = next(iter(attachment.parameters().values())).device.type
    rows = list(range(len(states)))

    def one_by_one() -> None:
        for row in rows:
            attachment.load(states[row])
            forward_item(row)

    variants = {"one adapter": Variant(forward), "one by one": Variant(one_by_one)}
    if attachment.mixable:
        variants["mixed"] = Variant(forward, lambda: attachment.mixed(states, rows))
    seconds = interleaved(variants, rounds, device_type)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: ratio(values, seconds["one adapter"]) for name, values in seconds.items()}
    return MixedBatch(
        len(rows),
        len(states),
        middle.get("mixed"),
        ratios.get("mixed"),
        middle["one by one"],
        ratios["one by one"],
    )


@dataclass(frozen=True)
class ModelInput:
    """What a task's own batch gives to the model, so that inference is measured on inputs of real shapes."""

    model: Any
    args: tuple
    kwargs: dict[str, Any]
    items: int

    @classmethod
    def of(cls, prepared: PreparedTask, items: int, seed: int = 0) -> ModelInput:
        """Take the input of the first call of the model that the loss of a batch makes; the loss is not used."""
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
        """The model's output, logits or the predicted noise; where labels are given the loss before it is left out."""
        output = self.model(*self.args, **self.kwargs)
        parts = output if isinstance(output, tuple) else output.to_tuple()
        return next(part for part in parts if isinstance(part, torch.Tensor) and part.ndim > 0)

    def item(self, index: int) -> ModelInput:
        """The input of one item alone; what has no such dimension stays as it is."""

        def one(value: Any) -> Any:
            has_items = isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == self.items
            return value[index : index + 1] if has_items else value

        return ModelInput(self.model, tuple(map(one, self.args)), {k: one(v) for k, v in self.kwargs.items()}, 1)
