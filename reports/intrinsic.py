"""Results of `experiments.intrinsic`: the smallest size that comes close to full fine-tuning, over seeds."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from reports.schema import check_schema

SizeValue = Annotated[float, Meta(gt=0, lt=1e15)]


class PointRecord(msgspec.Struct, frozen=True):
    """One run: the primary metric with its interval over items; None if the run failed."""

    size: SizeValue
    value: float | None
    reached: bool
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"'value' is {self.value}, expected a finite number or null")


class CrossingRecord(msgspec.Struct, frozen=True):
    """Size at which one seed reaches its target, between `below` and `reaching`; None means outside the range."""

    seed: int
    crossing: SizeValue | None
    below: SizeValue | None
    reaching: SizeValue | None
    points: list[PointRecord]
    shape: str | None = None  # a plateau or a curve that never crosses, in words

    @property
    def text(self) -> str:
        """The crossing, or the end of the range beyond which it lies."""
        if self.crossing is not None:
            return rounded_text(self.crossing)
        if self.below:
            return f"not reached up to {rounded_text(self.below)}"
        return f"at most {rounded_text(self.reaching)}" if self.reaching else ""


class CurveRecord(msgspec.Struct, frozen=True):
    """One variant of a method: the size over seeds with its interval, whose ends may be open (None)."""

    name: str
    method: str
    field: str
    range: tuple[SizeValue, SizeValue]
    value: SizeValue | None
    low: SizeValue | None
    high: SizeValue | None
    n: int
    above: int
    at_or_below: int
    how: str
    seeds: list[CrossingRecord]
    rates: str | None = None  # how the learning rate of each size was chosen, in words

    @property
    def text(self) -> str:
        """The size with its interval; "above" or "at most" marks an end of the range searched."""
        smallest, largest = self.range
        low = f"at most {rounded_text(smallest)}" if self.low is None else rounded_text(self.low)
        high = f"above {rounded_text(largest)}" if self.high is None else rounded_text(self.high)
        if self.n and self.n in (self.above, self.at_or_below):
            return f"not reached up to {rounded_text(largest)}" if self.above else low
        outside = high if 2 * self.above > self.n else low if 2 * self.at_or_below > self.n else "unknown"
        return f"{outside if self.value is None else rounded_text(self.value)} [{low}, {high}]"


class GoalRecord(msgspec.Struct, frozen=True):
    """The figure that counts as 100 %."""

    value: float | None
    base: float | None = None
    n: int | None = None
    unit: str | None = None
    extractor: str | None = None
    run: str | None = None  # None if the value is known without a run


class SeedRecord(msgspec.Struct, frozen=True):
    """The goal and the target of one seed; `reason` says why there is no target."""

    seed: int
    goal: GoalRecord
    target: float | None = None
    reason: str | None = None


class IntrinsicRecord(msgspec.Struct, frozen=True):
    """`intrinsic-<hash>.json`."""

    schema: int
    task: str
    metric: str
    better: Literal["lower", "higher"]
    threshold: float
    goal: str
    seeds: list[SeedRecord]
    curves: list[CurveRecord]
    of: Literal["gain", "performance"] = "gain"

    def __post_init__(self) -> None:
        check_schema(self.schema)

    @property
    def measured(self) -> list[SeedRecord]:
        return [seed for seed in self.seeds if seed.target is not None]

    @property
    def title(self) -> str:
        share = f"{100 * self.threshold:g} % of the {self.of}"
        return f"Smallest size that reaches {share} of {self.goal} in {self.metric}"

    @property
    def _target(self) -> str:
        share = f"{100 * self.threshold:g} %"
        of_a_run = any(seed.goal.run for seed in self.measured)
        goal = f"the {self.goal} run of that seed" if of_a_run else self.goal
        if self.of == "performance":
            definition = ", as Aghajanyan et al. (2020) define d90" if of_a_run else ""
            return f"is {share} of the value of {goal}{definition}."
        return (
            f"lies {share} of the way from the untuned base to {goal}; the d90 of Aghajanyan et al. (2020), a share of "
            "performance, is another figure (--of performance)."
        )

    @property
    def notes(self) -> list[str]:
        """How the figures were measured and how the intervals were computed."""
        goal = next((seed.goal for seed in self.measured), GoalRecord(None))
        unit = f", {goal.unit}" if goal.unit else ""
        lines = [
            f"{self.metric}: {self.better} is better{unit}, n={goal.n}, measured with {goal.extractor}. The target of "
            f"a seed {self._target}"
        ]
        lines += [f"{curve.name}: {curve.field} {curve.text}; {curve.how}, n={curve.n} seeds." for curve in self.curves]
        lines += [f"{c.name}: {c.rates}." for c in self.curves if c.rates]
        lines += [f"{c.name}, seed {seed.seed}: {seed.shape}." for c in self.curves for seed in c.seeds if seed.shape]
        return lines + [f"Left out: {seed.reason}." for seed in self.seeds if seed.reason]


def rounded_text(value: float) -> str:
    """Three digits; whole numbers from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
