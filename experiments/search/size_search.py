"""SizeSearches for the smallest size that comes close to full fine-tuning, one a curve and seed; every point is an ordinary
run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.search.bisection import Bracket, crossing
from experiments.sweeping.jobs import Job, RunJob

if TYPE_CHECKING:
    from adapters.base import Adapter
    from experiments.sweeping.local_launcher import Ended, Launcher

FIGURE = ("value", "low", "high", "base", "n", "unit", "extractor")


@dataclass(frozen=True)
class Curve:
    """One method in one named form, and the sizes to look among."""

    name: str
    config: RunConfig
    bracket: Bracket
    rate_exponent: float

    @property
    def field(self) -> str:
        return size_field(self.config.adapter)

    def at(self, size: int, seed: int) -> RunConfig:
        """The run of one point."""
        adapter, train = self.config.adapter, self.config.resolved().train
        default = getattr(type(adapter)(), self.field)
        rate = (train.learning_rate or 0) * (default / size) ** self.rate_exponent
        train = replace(self.config.train, seed=seed, learning_rate=float(f"{rate:.3g}"))
        return RunConfig(replace(adapter, **{self.field: size}), self.config.task, train).resolved()


def size_field(adapter: Adapter) -> str:
    """The field to vary. Raises UsageError for a method that has none, or none that must be given."""
    field = adapter.size_field
    if field is None or getattr(type(adapter)(), field) is None:
        raise UsageError(f"the method '{adapter.name}' has no size to search")
    return field


@dataclass(frozen=True)
class Goal:
    """What one seed is measured against: a run of the goal's method, and the metric that says how good a run is."""

    run: RunJob
    metric: str
    threshold: float

    @property
    def seed(self) -> int:
        return self.run.config.train.seed

    @property
    def better(self) -> str:
        return self.run.config.task.metrics[self.metric].better

    def facts(self) -> dict[str, Any]:
        """Once it has run: its figure, and the `target`; or the `reason` why there is none."""
        name, whole = self.run.config.adapter.name, figure_of(self.run, self.metric)
        facts = {"seed": self.seed, "goal": whole}
        if whole["value"] is None:
            return facts | {"reason": f"{name} failed in seed {self.seed}: {whole['reason']}"}
        if not self.reaches(whole["value"], whole["base"]) or whole["value"] == whole["base"]:
            return facts | {
                "reason": f"{name} does not beat the untuned base in seed {self.seed} ({self.metric} "
                f"{whole['value']:.4g} on {whole['n']} items, the untuned base {whole['base']:.4g})"
            }
        return facts | {"target": whole["base"] + self.threshold * (whole["value"] - whole["base"])}

    def reaches(self, value: float, target: float) -> bool:
        return value >= target if self.better == "higher" else value <= target


@dataclass(eq=False)
class SizeSearch:
    """One curve of one seed: which run comes next, and what the runs so far have shown."""

    curve: Curve
    goal: Goal
    target: float
    bracket: Bracket
    points: list[dict[str, Any]] = field(default_factory=list)  # in the order measured

    def next(self) -> RunJob | None:
        """The run to do next; None where the search is over."""
        size = self.bracket.next()
        return None if size is None else RunJob(self.curve.at(size, self.goal.seed), self.goal.run.root)

    def tell(self, run: RunJob) -> str:
        """Take in what the run has shown; a run that failed does not reach. Returns it in words."""
        size = getattr(run.config.adapter, self.curve.field)
        point = {"size": size} | figure_of(run, self.goal.metric)
        point["reached"] = point["value"] is not None and self.goal.reaches(point["value"], self.target)
        self.points.append(point)
        self.bracket = self.bracket.told(size, point["reached"])
        shown = f"failed ({point['reason']})" if point["value"] is None else f"{point['value']:.4g}"
        verdict = "reaches" if point["reached"] else "does not reach"
        head = f"{self.curve.name} {self.curve.field} {size:,} seed {self.goal.seed}"
        return f"{head}: {self.goal.metric} {shown} {verdict} {self.target:.4g}"

    def found(self) -> dict[str, Any]:
        """Where the search is over: its points, and where it crosses the target."""
        at = crossing(self.bracket, {point["size"]: point["value"] for point in self.points}, self.target)
        head = {"curve": self.curve.name, "seed": self.goal.seed}
        return head | {"crossing": at.size, "below": at.below, "reaching": at.reaching, "points": self.points}


class SizeSearches:
    """All searches, each a chain of runs. The first seed of a method's first form leads: its other forms and seeds
    begin where that one ended."""

    def __init__(self, searches: Sequence[SizeSearch]):
        leaders: dict[str, SizeSearch] = {}
        self.followers: dict[SizeSearch, list[SizeSearch]] = {}
        for search in searches:
            leader = leaders.setdefault(search.curve.config.adapter.name, search)
            self.followers.setdefault(leader, []).extend([search] if search is not leader else [])
        self.asked: dict[Job, SizeSearch] = {}

    def perform(self, launcher: Launcher) -> None:
        """Bring all to their end. Raises UsageError where a run ends without a record."""
        from experiments.sweeping.display import perform

        first = [run for leader in list(self.followers) for run in self.after(leader)]
        perform(first, launcher, "runs", lambda ended: self.after(self.asked.pop(recorded(ended))))

    def after(self, search: SizeSearch) -> list[RunJob]:
        """Tells the search all that is there already; the run that it needs next. Where it is over, its followers'."""
        while (run := search.next()) is not None:
            if run.folder.result() is None:
                self.asked[run] = search
                return [run]
            print(search.tell(run), flush=True)
        followers = self.followers.pop(search, [])
        for follower in followers:
            follower.bracket = follower.bracket.beginning(search.bracket.below, search.bracket.reaching)
        return [run for follower in followers for run in self.after(follower)]


def run_goals(goals: Sequence[Goal], launcher: Launcher) -> None:
    """Do the runs of those that have none yet. Raises UsageError where one ends without a record."""
    from experiments.sweeping.display import perform

    def nothing(ended: Ended) -> tuple[Job, ...]:
        recorded(ended)
        return ()

    left = [goal.run for goal in goals if goal.run.folder.result() is None]
    perform(left, launcher, f"runs of {goals[0].run.config.adapter.name}", nothing)


def recorded(ended: Ended) -> Job:
    """The job, which left a record, of a failure perhaps. Raises UsageError where it left none."""
    if ended.job.folder.result() is None:
        raise UsageError(f"{ended.job.label}: {ended.reason}; what was finished stays, and the same command goes on")
    return ended.job


def figure_of(run: RunJob, metric: str) -> dict[str, Any]:
    """The figure of a run that has a record, with its interval and n; the value is None where the run failed."""
    record = run.folder.result()
    if record is None:
        raise UsageError(f"{run.label} has no record")
    figure = record["metrics"][metric] if record["status"] == "finished" else {}
    return {name: figure.get(name) for name in FIGURE} | {
        "run": str(run.folder.path.relative_to(run.root)),
        "learning_rate": run.config.train.learning_rate,
        "reason": record["reason"],
    }
