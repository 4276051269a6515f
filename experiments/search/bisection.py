"""Find the smallest sufficient size: a coarse grid, then bisection, both on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

LEVEL = 0.95


@dataclass(frozen=True)
class Bisection:
    """The state of a search for the smallest size that reaches a goal: it fails at `below` and succeeds at `reaching`.

    Either is None while unknown. Assumes, as bisection does, that quality does not fall as the size grows.
    """

    grid: tuple[int, ...]  # sizes of the coarse search; the first and the last are the range
    resolution: float  # stop once reaching / below is at most this
    below: int | None = None
    reaching: int | None = None
    first: int | None = None  # the size to measure first; None for the middle of the grid

    @classmethod
    def over(cls, smallest: int, largest: int, factor: float, resolution: float) -> Bisection:
        """A new bisection of [smallest, largest] whose grid grows by `factor`."""
        grid, size = [smallest], smallest * factor
        while size * resolution <= largest:
            grid.append(round(size))
            size *= factor
        return cls(tuple(dict.fromkeys([*grid, largest])), resolution)

    def next_size(self) -> int | None:
        """The size to measure next, or None once the bisection is over.

        Walks the grid outwards from `first` (or the middle), then halves the remaining interval on the log scale.
        """
        below, reaching = self.below or 0, self.reaching or math.inf
        between = [size for size in self.grid if below < size < reaching]
        if between:
            if self.below is None and self.reaching is None:
                return self.first or between[(len(between) - 1) // 2]
            return between[-1] if self.below is None else between[0]
        if self.below is None or self.reaching is None:
            return None
        if self.reaching <= self.below * self.resolution or self.reaching - self.below == 1:
            return None
        middle = round(math.sqrt(self.below * self.reaching))
        return min(max(middle, self.below + 1), self.reaching - 1)

    def starting_from(self, below: int | None, reaching: int | None) -> Bisection:
        """The same bisection, but measuring first where another one ended: at `reaching`, then at `below`.

        Two measurements are enough if both have the same answer. Drops sizes outside this one's range,
        and grid sizes that the resolution cannot tell from the starting point.
        """
        smallest, between, largest = self.grid[0], self.grid[1:-1], self.grid[-1]
        known = [size for size in (below, reaching) if size is not None and smallest <= size <= largest]
        distinct = [
            size for size in between if all(max(size, other) > self.resolution * min(size, other) for other in known)
        ]
        grid = tuple(sorted({smallest, *distinct, *known, largest}))
        return replace(self, grid=grid, first=max(known, default=None))

    def with_result(self, size: int, reached: bool) -> Bisection:
        """The bisection after a measurement."""
        return replace(self, reaching=size) if reached else replace(self, below=size)

    def steps_left(self) -> int:
        """The largest number of measurements that can still follow."""
        size = self.next_size()
        return 0 if size is None else 1 + max(self.with_result(size, reached).steps_left() for reached in (True, False))


@dataclass(frozen=True)
class Crossing:
    """Where the quality of one seed crosses its target: between `below` and `reaching`, interpolated at `size`.

    `size` is None if the crossing lies outside the range: above it if `reaching` is None, below it if `below` is None.
    """

    size: float | None
    below: int | None
    reaching: int | None


def interpolate(bisection: Bisection, quality: Mapping[int, float | None], target: float) -> Crossing:
    """The crossing after a finished bisection, by linear interpolation of quality over log size.

    `quality` by size; None for a failed run, in which case the crossing is the size that reaches the target.
    """
    below, reaching = bisection.below, bisection.reaching
    if below is None or reaching is None:
        return Crossing(None, below, reaching)
    low, high = quality[below], quality[reaching]
    share = 1.0 if low is None or high is None or low == high else (target - low) / (high - low)
    return Crossing(below * (reaching / below) ** share, below, reaching)


def combine_seeds(crossings: Sequence[Crossing]) -> dict[str, Any]:
    """The size over seeds: `value`, `low` and `high` (None if open), how they were computed, and the number of seeds.

    With a crossing in every seed it is the geometric mean with a 95 % Student's t interval of the logarithms; a single
    seed has only the two sizes that enclose its crossing. If a crossing lies outside the range, its distribution is
    unknown: the result is then the median and range over seeds, open on that side.
    """
    sizes = sorted(c.size for c in crossings if c.size is not None)
    above = sum(c.size is None and c.reaching is None for c in crossings)
    under = len(crossings) - len(sizes) - above
    if len(sizes) < len(crossings):
        value, low, high = _median_and_range(sizes, under, above)
        how = "median and range over seeds"
        how += f", of which {above} never reach the target in the range searched" if above else ""
        how += f", of which {under} reach it at the smallest size" if under else ""
    elif len(sizes) == 1:
        value, low, high = sizes[0], crossings[0].below, crossings[0].reaching
        how = "one seed, between the sizes that enclose its crossing"
    else:
        value, low, high = _t_interval([math.log(size) for size in sizes])
        how = "geometric mean and 95 % interval over seeds (Student's t of log size)"
    counts = {"n": len(crossings), "above": above, "at_or_below": under}
    return {"value": value, "low": low, "high": high, **counts, "how": how}


def _median_and_range(
    sizes: Sequence[float], under: int, above: int
) -> tuple[float | None, float | None, float | None]:
    """Median, lowest and highest of sorted sizes, with `under` and `above` more beyond either end; None if open."""
    ordered = [*[None] * under, *sizes, *[None] * above]
    middle = (len(ordered) - 1) // 2
    median = ordered[middle] if len(ordered) % 2 else _geometric_mean(ordered[middle : middle + 2])
    return median, None if under or not sizes else sizes[0], None if above or not sizes else sizes[-1]


def _geometric_mean(pair: Sequence[float | None]) -> float | None:
    sizes = [size for size in pair if size is not None]
    return math.sqrt(math.prod(sizes)) if len(sizes) == 2 else None


def _t_interval(logs: Sequence[float]) -> tuple[float, float, float]:
    from scipy import stats

    mean, error = sum(logs) / len(logs), float(stats.sem(logs))
    margin = float(stats.t.ppf((1 + LEVEL) / 2, len(logs) - 1)) * error
    return math.exp(mean), math.exp(mean - margin), math.exp(mean + margin)
