"""What `experiments.intrinsic` found: the smallest sizes that come close to full fine-tuning, over seeds."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Extent = Annotated[float, Meta(gt=0, lt=1e15)]


class Point(msgspec.Struct, frozen=True):
    """One run: the primary_metric figure with its interval over items; None where the run failed."""

    size: Extent
    value: float | None
    reached: bool
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"'value' is {self.value}, expected a finite number or null")


class Place(msgspec.Struct, frozen=True):
    """Where the quality of one seed crosses its target: between `below` and `reaching`; None is outside the range."""

    seed: int
    crossing: Extent | None
    below: Extent | None
    reaching: Extent | None
    points: list[Point]

    @property
    def text(self) -> str:
        """The crossing; where it lies outside the range searched, at which end."""
        if self.crossing is not None:
            return number(self.crossing)
        return (
            f"above {number(self.below)}" if self.below else f"at most {number(self.reaching)}" if self.reaching else ""
        )


class Curve(msgspec.Struct, frozen=True):
    """One method in one form: the size over seeds with its interval, an end of which may be open (None)."""

    name: str
    method: str
    field: str
    range: tuple[Extent, Extent]
    value: Extent | None
    low: Extent | None
    high: Extent | None
    n: int
    above: int
    at_or_below: int
    how: str
    seeds: list[Place]

    @property
    def text(self) -> str:
        """The size with its interval; what lies outside the range searched is said so."""
        smallest, largest = self.range
        low = f"at most {number(smallest)}" if self.low is None else number(self.low)
        high = f"above {number(largest)}" if self.high is None else number(self.high)
        if self.n and self.n in (self.above, self.at_or_below):
            return high if self.above else low
        outside = high if 2 * self.above > self.n else low if 2 * self.at_or_below > self.n else "unknown"
        return f"{outside if self.value is None else number(self.value)} [{low}, {high}]"


class Goal(msgspec.Struct, frozen=True):
    value: float | None
    base: float | None = None
    n: int | None = None
    unit: str | None = None
    extractor: str | None = None


class Seed(msgspec.Struct, frozen=True):
    """What is 100 % in one seed, and the target; `reason` where there is none."""

    seed: int
    goal: Goal
    target: float | None = None
    reason: str | None = None


class Outcome(msgspec.Struct, frozen=True):
    schema: Literal[1]
    task: str
    metric: str
    better: Literal["lower", "higher"]
    threshold: float
    goal: str
    seeds: list[Seed]
    curves: list[Curve]

    @property
    def measured(self) -> list[Seed]:
        return [seed for seed in self.seeds if seed.target is not None]

    @property
    def title(self) -> str:
        return f"Smallest size that reaches {100 * self.threshold:g} % of what {self.goal} gains in {self.metric}"

    @property
    def notes(self) -> list[str]:
        """What the figures were measured with and how the intervals were made."""
        goal = next((seed.goal for seed in self.measured), Goal(None))
        unit = f", {goal.unit}" if goal.unit else ""
        lines = [
            f"{self.metric}: {self.better} is better{unit}, n={goal.n}, measured with {goal.extractor}; the target of "
            f"each seed is {100 * self.threshold:g} % of the way from the untuned base to its own {self.goal} run."
        ]
        lines += [f"{curve.name}: {curve.field} {curve.text}; {curve.how}, n={curve.n} seeds." for curve in self.curves]
        return lines + [f"Left out: {seed.reason}." for seed in self.seeds if seed.reason]


def number(value: float) -> str:
    """Three digits, whole numbers from a hundred on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
