"""The smallest size that is good enough: bracketed by powers of a factor, then bisected, all on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

LEVEL = 0.95


@dataclass(frozen=True)
class Bracket:
    """What is known of the smallest size that reaches: `below` it does not, at `reaching` it does; None is unknown.

    A quality that does not fall as the size grows is taken for granted, as bisection needs.
    """

    grid: tuple[int, ...]  # sizes of the first, coarse search; its ends are the range
    resolution: float  # bisection stops where reaching / below is at most this
    below: int | None = None
    reaching: int | None = None
    first: int | None = None  # the size of the grid to begin with; the middle one where it is None

    @classmethod
    def over(cls, smallest: int, largest: int, factor: float, resolution: float) -> Bracket:
        """An empty bracket over [smallest, largest], its grid in powers of `factor`."""
        grid, size = [smallest], smallest * factor
        while size * resolution <= largest:
            grid.append(round(size))
            size *= factor
        return cls(tuple(dict.fromkeys([*grid, largest])), resolution)

    def next(self) -> int | None:
        """The size to measure next; None where the search is over.

        From `first` or the middle of the grid outward to its ends, then halves of what lies between on the log scale.
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

    def beginning(self, below: int | None, reaching: int | None) -> Bracket:
        """The bracket that looks first at where another search ended: at `reaching`, then at `below`.

        Two measurements end it where the answer is the same. Sizes outside its own range are left out, and so are
        those of its grid that the resolution does not tell from where it begins.
        """
        smallest, between, largest = self.grid[0], self.grid[1:-1], self.grid[-1]
        known = [size for size in (below, reaching) if size is not None and smallest <= size <= largest]
        apart = [
            size for size in between if all(max(size, other) > self.resolution * min(size, other) for other in known)
        ]
        grid = tuple(sorted({smallest, *apart, *known, largest}))
        return replace(self, grid=grid, first=max(known, default=None))

    def told(self, size: int, reached: bool) -> Bracket:
        """The bracket after a measurement."""
        return replace(self, reaching=size) if reached else replace(self, below=size)

    def left(self) -> int:
        """How many measurements are left at most."""
        size = self.next()
        return 0 if size is None else 1 + max(self.told(size, reached).left() for reached in (True, False))


@dataclass(frozen=True)
class Crossing:
    """Where one seed's quality crosses the goal: between `below` and `reaching`, at `size` by interpolation.

    `size` is None where the goal lies beyond the range: `reaching` None says above it, `below` None says below it.
    """

    size: float | None
    below: int | None
    reaching: int | None


def crossing(bracket: Bracket, quality: dict[int, float | None], goal: float) -> Crossing:
    """The crossing in a finished bracket: linear in quality over log size between the bracket's ends.

    `quality` by size; None (a run that failed) leaves nothing to interpolate, and the reaching end stands.
    """
    below, reaching = bracket.below, bracket.reaching
    if below is None or reaching is None:
        return Crossing(None, below, reaching)
    low, high = quality[below], quality[reaching]
    share = 1.0 if low is None or high is None or low == high else (goal - low) / (high - low)
    return Crossing(below * (reaching / below) ** share, below, reaching)


def over_seeds(found: Sequence[Crossing]) -> dict[str, Any]:
    """The size over seeds: `value`, `low`, `high` (None is open) and `how` they were made, and the number of seeds.

    With a crossing in every seed, the geometric mean with a 95 % Student's t interval of the logarithms. One seed
    knows only its bracket. Where a seed's crossing lies beyond the range nothing normal can be assumed of it: then
    the median and the range of the seeds, open where a seed is.
    """
    known = sorted(c.size for c in found if c.size is not None)
    above = sum(c.size is None and c.reaching is None for c in found)
    under = len(found) - len(known) - above
    if len(known) < len(found):
        ordered = [*[None] * under, *known, *[None] * above]
        value = ordered[(len(ordered) - 1) // 2] if len(ordered) % 2 else _mean(ordered[len(ordered) // 2 - 1 :][:2])
        low, high = (None if under or not known else known[0]), (None if above or not known else known[-1])
        how = f"median and range over seeds, of which {above} lie above the range searched and {under} at or below it"
    elif len(known) == 1:
        value, low, high, how = known[0], found[0].below, found[0].reaching, "the bracket of one seed"
    else:
        value, low, high = _t_interval([math.log(size) for size in known])
        how = "geometric mean and 95 % interval over seeds (Student's t of log size)"
    return {"value": value, "low": low, "high": high, "n": len(found), "above": above, "at_or_below": under, "how": how}


def _mean(pair: Sequence[float | None]) -> float | None:
    known = [size for size in pair if size is not None]
    return math.sqrt(math.prod(known)) if len(known) == 2 else None


def _t_interval(logs: Sequence[float]) -> tuple[float, float, float]:
    from scipy import stats

    mean, error = sum(logs) / len(logs), float(stats.sem(logs))
    margin = float(stats.t.ppf((1 + LEVEL) / 2, len(logs) - 1)) * error
    return math.exp(mean), math.exp(mean - margin), math.exp(mean + margin)
