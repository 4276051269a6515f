"""Search for the smallest size that comes close to a goal, per method variant and seed.

Every measured size is an ordinary run, so its record is reused by later searches, sweeps and reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.search.bisection import Bisection, interpolate
from experiments.search.curve_shape import shape
from experiments.search.goals import Goal, figure_of, recorded_job
from experiments.sweeping.jobs import Job, RunJob

if TYPE_CHECKING:
    from pathlib import Path

    from adapters.base import Adapter
    from experiments.sweeping.local_launcher import Launcher

SEARCHED = {  # sources of a learning rate (`RunConfig.learning_rate_source`), in words
    "search": "at sizes that were searched",
    "interpolated": "interpolated between such sizes",
    "nearest": "of the nearest such size",
}


@dataclass(frozen=True)
class SizedMethod:
    """One variant of a method, and the bisection of its sizes that every seed starts with."""

    name: str
    config: RunConfig
    bisection: Bisection
    rate_exponent: float

    @property
    def field(self) -> str:
        return size_field(self.config.adapter)

    def at(self, size: int, seed: int) -> RunConfig:
        """The configuration of one run, at the learning rate that a search on the base found for its size.

        Without a search the rate is the one at the default size times (default size / size) ** rate_exponent.
        """
        config = self._sized(size, seed)
        if config.learning_rate_source in SEARCHED:
            return config
        rate = float(f"{self.default_rate * (self.default_size / size) ** self.rate_exponent:.3g}")
        return replace(config, train=replace(config.train, learning_rate=rate))

    @property
    def rates(self) -> str:
        """How the learning rates of the sizes in the range were chosen, in words."""
        sources = {self.at(size, 0).learning_rate_source for size in self.bisection.grid}
        if searched := [text for source, text in SEARCHED.items() if source in sources]:
            return f"learning rates found by search on the base: {', '.join(searched)}"
        law = f" times ({self.default_size:,} / {self.field}) ** {self.rate_exponent:g}" if self.rate_exponent else ""
        return f"learning rates not tuned for each size: {self.default_rate:g}{law}"

    @property
    def default_size(self) -> int:
        return getattr(type(self.config.adapter)(), self.field)

    @property
    def default_rate(self) -> float:
        """The learning rate at the default size."""
        rate = self._sized(self.default_size, self.config.train.seed).train.learning_rate
        assert rate is not None, "the configuration is not resolved"
        return rate

    def _sized(self, size: int, seed: int) -> RunConfig:
        adapter = replace(self.config.adapter, **{self.field: size})
        return replace(self.config, adapter=adapter, train=replace(self.config.train, seed=seed)).resolved()


def size_field(adapter: Adapter) -> str:
    """The field to vary. Raises UsageError for a method without a size, or without a default for it."""
    name = adapter.size_field
    if name is None or getattr(type(adapter)(), name) is None:
        raise UsageError(f"the method '{adapter.name}' has no size to search")
    return name


@dataclass(eq=False)
class SizeSearch:
    """The search of one method variant and seed."""

    method: SizedMethod
    goal: Goal
    target: float
    runs: Path
    bisection: Bisection
    points: list[dict[str, Any]] = field(default_factory=list)  # in the order measured

    def next_run(self) -> RunJob | None:
        """The run to do next, or None once the search is over."""
        size = self.bisection.next_size()
        return None if size is None else RunJob(self.method.at(size, self.goal.seed), self.runs)

    def add_result(self, run: RunJob) -> str:
        """Continue with the result of a run, in which a failed run does not reach the target; returns it in words."""
        size = getattr(run.config.adapter, self.method.field)
        point = {"size": size} | figure_of(run, self.goal.metric.name)
        point["reached"] = point["value"] is not None and self.goal.reaches(point["value"], self.target)
        self.points.append(point)
        self.bisection = self.bisection.with_result(size, point["reached"])
        value = f"failed ({point['reason']})" if point["value"] is None else f"{point['value']:.4g}"
        verdict = "reaches" if point["reached"] else "does not reach"
        label = f"{self.method.name} {self.method.field} {size:,} seed {self.goal.seed}"
        return f"{label}: {self.goal.metric.name} {value} {verdict} {self.target:.4g}"

    def as_record(self) -> dict[str, Any]:
        """After the search: its points and its crossing."""
        values = {point["size"]: point["value"] for point in self.points}
        crossing = interpolate(self.bisection, values, self.target)
        gained = {size: self.goal.share_of_gain(value) for size, value in values.items() if value is not None}
        return {
            "curve": self.method.name,
            "seed": self.goal.seed,
            "crossing": crossing.size,
            "below": crossing.below,
            "reaching": crossing.reaching,
            "shape": shape(gained, crossing),
            "points": self.points,
        }


class SizeSearches:
    """Several searches at once. The first search of each method runs first; its other variants and seeds then start
    from its result, which saves most of their runs."""

    def __init__(self, searches: Sequence[SizeSearch]):
        first_of: dict[str, SizeSearch] = {}
        self.later: dict[SizeSearch, list[SizeSearch]] = {}
        for search in searches:
            first = first_of.setdefault(search.method.config.adapter.name, search)
            self.later.setdefault(first, []).extend([search] if search is not first else [])
        self.pending: dict[Job, SizeSearch] = {}

    def run(self, launcher: Launcher) -> None:
        """Run all searches to their end. Raises UsageError if a run ends without a record."""
        from experiments.sweeping.display import run_jobs

        runs = [run for search in list(self.later) for run in self.next_runs(search)]
        run_jobs(runs, launcher, "runs", lambda ended: self.next_runs(self.pending.pop(recorded_job(ended))))

    def next_runs(self, search: SizeSearch) -> list[RunJob]:
        """The run that the search needs next, skipping those on disk; once it is over, those of the later searches."""
        while (run := search.next_run()) is not None:
            if run.folder.result() is None:
                self.pending[run] = search
                return [run]
            print(search.add_result(run), flush=True)
        later = self.later.pop(search, [])
        for other in later:
            other.bisection = other.bisection.starting_from(search.bisection.below, search.bisection.reaching)
        return [run for other in later for run in self.next_runs(other)]
