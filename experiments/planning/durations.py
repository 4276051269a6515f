"""Estimates of time: FLOPs divided by a share of a GPU's peak rate."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.planning.cards import Card
from experiments.planning.memory_plan import Plan

SHARES = (0.2, 0.5)  # of the peak rate that trainings reach; small batches and short rows stay below
NONE_KNOWN = (
    "no time is estimated: name a card with a known rate (--card a100-80gb) or its rate (--tflops 120) for the seconds "
    "of a step"
)


def durations(plan: Plan, card: Card | None, tflops: float | None) -> Iterator[str]:
    """Sentences about the time of a step, of the training and of the evaluation; or how to get them."""
    rate = _rate(plan, card, tflops)
    if rate is None:
        yield NONE_KNOWN
        return
    source, flops_per_second = rate
    training = plan.prediction.training
    yield (
        f"estimates, at {SHARES[0]:.0%} to {SHARES[1]:.0%} of {flops_per_second / 1e12:g} TFLOP/s ({source}); "
        "elementwise operations, data and waits are not counted:"
    )
    yield f"  a step of {training.flops / 1e12:.3g} TFLOP: {span(training.flops, flops_per_second)}"
    steps = plan.config.train.steps
    if steps is not None:
        yield f"  training, {steps:,} steps: {span(steps * training.flops, flops_per_second)}"
    else:
        items = plan.train.batch_size * plan.train.gradient_accumulation_steps
        per_thousand = span(1000 * training.flops // items, flops_per_second)
        yield f"  1,000 training items: {per_thousand} (the training has {plan.config.train.epochs} epochs)"
    evaluation = sum(phase.flops * phase.count for phase in plan.prediction.phases if phase.when == "evaluation")
    if evaluation:
        yield f"  an evaluation, of which a run has two: {span(evaluation, flops_per_second)}"


def _rate(plan: Plan, card: Card | None, tflops: float | None) -> tuple[str, float] | None:
    """Where the rate is from, and FLOP/s."""
    if tflops is not None:
        return "--tflops", tflops * 1e12
    known = None if card is None else card.rate(plan.train.mixed_precision)
    if card is None or known is None:
        return None
    dtype, rate = known
    return f"{card.name}, {dtype}: {card.source}", rate


UNITS = (("days", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3))


def span(flops: float, flops_per_second: float) -> str:
    """The shortest and longest time of so many FLOPs, in one unit: "50 to 130 ms"."""
    low, high = (flops / flops_per_second / share for share in reversed(SHARES))
    unit, scale = next((each for each in UNITS if low >= each[1]), UNITS[-1])
    return f"{two_digits(low / scale)} to {two_digits(high / scale)} {unit}"


def two_digits(value: float) -> str:
    rounded = float(f"{value:.2g}")
    return f"{rounded:.0f}" if rounded >= 10 else f"{rounded:.1f}"
