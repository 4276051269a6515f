"""Will it fit? What a training step needs, predicted from the model's configuration alone, before a GPU is rented."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from experiments.cli.errors import command
from experiments.cli.parser import parse
from experiments.config import RunConfig
from experiments.errors import UsageError

if TYPE_CHECKING:
    from experiments.measure.memory_prediction import Prediction

GIB = 2**30
CARDS = (8, 12, 16, 24, 40, 80)  # GB as they are sold, which is GiB for all but the last digits
FORMATS = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class PlanOptions:
    """Predict what a training step needs and on which cards it fits; no weights, no data, no GPU.

    For example: python -m experiments.plan lora sd-pokemon --task.base sd-2-1 --task.resolution 512 --train.batch-size 1
    """

    precision: FORMATS | None = None
    """Of the computation (autocast). What trains is kept in fp32. Default: --train.mixed-precision."""
    weights: FORMATS = "fp32"
    """Number format in which everything frozen is kept; the training loop keeps fp32. A half format needs the same
    --precision."""
    attention: Literal["fused", "math"] = "fused"
    """Attention kernels: "fused" (flash or memory-efficient), or the plain products, which keep every score."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Whose rules hold: autocast's list, AdamW's copies, the allocator's rounding."""
    context: float = 0.75
    """GiB that a card loses to CUDA's context, kernels, and cuBLAS' and cuDNN's workspaces: an allowance."""
    fragmentation: float = 0.05
    """Share of the peak that the allocator cannot use: an allowance."""
    grid: tuple[str, ...] | None = None
    """Vary: the method's size (rank, ...), resolution or length, batch, precision, checkpointing. Each alone, or with
    values: --grid rank=1,4,16 batch=1,8 checkpointing; --grid alone varies all."""
    out: Path = Path("plan.svg")
    """The grid's plot (.svg, .png or .pdf); its table goes beside it as .csv."""


@dataclass(frozen=True)
class Plan:
    """One configuration on one kind of device, and what it was predicted to need."""

    config: RunConfig
    options: PlanOptions
    prediction: Prediction = field(repr=False)

    @property
    def needed(self) -> float:
        """GiB that a card must have: the peak and the allowances."""
        return self.prediction.peak / GIB * (1 + self.options.fragmentation) + self.options.context


def main() -> None:
    config, options = parse(PlanOptions, sys.argv[1:], "python -m experiments.plan")
    config = prepared(config, options)
    if options.grid is not None:
        from experiments.measure.plan_grid import show

        show(config, options)
        return
    plan = make(config, options)
    print(table(plan))
    print(fitting(plan, largest_batches(plan)))


def prepared(config: RunConfig, options: PlanOptions) -> RunConfig:
    """The resolved configuration with the precision that the plan is for. Raises UsageError where formats clash."""
    config = config.resolved()
    precision = options.precision or config.train.mixed_precision
    if options.weights not in ("fp32", precision):
        raise UsageError(
            f"--weights {options.weights} needs the computation in it too: give --precision {options.weights}"
        )
    if not 0 <= options.fragmentation < 1 or options.context < 0:
        raise UsageError("--fragmentation must be at least 0 and below 1, --context at least 0")
    return replace(config, train=replace(config.train, mixed_precision=precision))


def make(config: RunConfig, options: PlanOptions) -> Plan:
    from experiments.measure.device_rules import TARGETS
    from experiments.measure.memory_prediction import predict

    prediction = predict(config, TARGETS[options.device], options.weights, options.attention == "fused")
    return Plan(config, options, prediction)


def largest_batches(plan: Plan) -> dict[int, int]:
    """The largest batch that fits each card, 0 where not even one item does.

    The need is the largest of several sums that grow linearly with the batch, one for each moment of a step; so it is
    convex, and a straight line between two predictions never promises too little.
    """
    needs: dict[int, float] = {}

    def need(batch: int) -> float:
        if batch not in needs:
            train = replace(plan.config.train, batch_size=batch)
            needs[batch] = make(replace(plan.config, train=train), plan.options).needed
        return needs[batch]

    needs[given_batch(plan)] = plan.needed
    first, some = need(1), need(8)
    step = max((some - first) / 7, 1e-6)
    far = max(16, int((CARDS[-1] - some) / step) + 8)  # about where the largest card is full
    while need(far) < CARDS[-1]:
        far *= 2
    return {card: between(needs, card) for card in CARDS}


def given_batch(plan: Plan) -> int:
    return plan.config.train.batch_size or 1


def between(needs: Mapping[int, float], limit: float) -> int:
    """The largest batch whose need is at most `limit`, on straight lines between the known ones."""
    known = sorted(needs)
    fitting = [batch for batch in known if needs[batch] <= limit]
    if not fitting:
        return 0
    low = fitting[-1]
    high = known[known.index(low) + 1]
    return low + int((limit - needs[low]) / (needs[high] - needs[low]) * (high - low))


def table(plan: Plan) -> str:
    """Bytes by category at the peak, and what the plan is of."""
    from tabulate import tabulate

    found = plan.prediction
    rows = [(name, found.categories[name]) for name in found.categories]
    rows += [(f"frozen beside it: {name}", size) for name, size in found.frozen_parts.items()]
    rows += [("peak of a training step", found.peak)]
    body = [(name, f"{size:,}", f"{size / GIB:.2f}") for name, size in rows]
    files = ", ".join(f"{name} {size:,} bytes ({size / 1e6:.2f} MB)" for name, size in found.files.items())
    lines = [
        heading(plan),
        tabulate(body, ["predicted", "bytes", "GiB"], disable_numparse=True, colalign=("left", "right", "right")),
        f"trainable parameters: {found.trainable:,} of {found.total:,}",
        f"adapter file: {files}",
        *found.notes,
    ]
    return "\n".join(lines)


def heading(plan: Plan) -> str:
    train, options = plan.config.train, plan.options
    shapes = ", ".join(f"{name} {value}" for name, value in plan.prediction.shapes.items())
    checkpointing = "on" if train.gradient_checkpointing else "off"
    return (
        f"{plan.config.adapter.name} on {plan.config.task.name}: {shapes}, batch {train.batch_size}, computed in "
        f"{train.mixed_precision}, frozen weights in {options.weights}, trained ones in fp32, {options.attention} attention, "
        f"gradient checkpointing {checkpointing}, AdamW, {options.device}"
    )


def fitting(plan: Plan, batches: Mapping[int, int]) -> str:
    """Which cards it fits, with the allowances named."""
    from tabulate import tabulate

    options = plan.options
    rows = [
        (f"{card} GB", "yes" if plan.needed <= card else "no", batches[card] or "none", f"{card - plan.needed:+.2f}")
        for card in CARDS
    ]
    loss = options.fragmentation * plan.prediction.peak / GIB
    return "\n".join(
        [
            f"a card needs {plan.needed:.2f} GiB: the peak, and as allowances (not predicted) {options.context:.2f} "
            f"for CUDA's context, kernels and workspaces, {loss:.2f} ({options.fragmentation:.0%}) for fragmentation",
            tabulate(rows, ["card", f"batch {plan.config.train.batch_size} fits", "largest batch", "GiB left"]),
        ]
    )


if __name__ == "__main__":
    command(main)
