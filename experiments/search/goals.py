"""What a search for the smallest size compares its runs with: a run of another method, or a value that is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from experiments.errors import UsageError
from experiments.sweeping.jobs import Job, RunJob

if TYPE_CHECKING:
    from experiments.sweeping.local_launcher import Ended, Launcher
    from tasks.base import Figure, Metric

FIGURE_FIELDS = ("value", "low", "high", "base", "n", "unit", "extractor")


@dataclass(frozen=True)
class Goal(ABC):
    """What the runs of one seed are compared with, and the metric that decides."""

    metric: Metric
    threshold: float
    of: str  # "gain" or "performance"
    seed: int
    name: str  # whose figure it is

    @abstractmethod
    def figure(self) -> dict[str, Any]:
        """The figure that counts as 100 %, with the untuned base's; its value is None if there is none."""

    def as_record(self) -> dict[str, Any]:
        """The figure, and either the `target` value or the `reason` why there is none."""
        figure = self.figure()
        record = {"seed": self.seed, "goal": figure}
        value, base = figure["value"], figure["base"]
        if value is None:
            return record | {"reason": f"{self.name} failed in seed {self.seed}: {figure['reason']}"}
        if not self.reaches(value, base) or value == base:
            reason = (
                f"{self.name} does not beat the untuned base in seed {self.seed} ({self.metric.name} {value:.4g} on "
                f"{figure['n']} items, the untuned base {base:.4g})"
            )
            return record | {"reason": reason}
        target = self.threshold * value if self.of == "performance" else base + self.threshold * (value - base)
        if self.reaches(base, target):
            reason = (
                f"the untuned base already reaches {self.threshold:.0%} of the {self.of} of {self.name} in seed "
                f"{self.seed} ({self.metric.name} {base:.4g} of {value:.4g})"
            )
            return record | {"reason": reason}
        return record | {"target": target}

    def share_of_gain(self, value: float) -> float:
        """How far `value` lies on the way from the untuned base (0) to the goal (1)."""
        figure = self.figure()
        return (value - figure["base"]) / (figure["value"] - figure["base"])

    def reaches(self, value: float, target: float) -> bool:
        return value >= target if self.metric.better == "higher" else value <= target


@dataclass(frozen=True)
class RunGoal(Goal):
    """A run of another method, with the same seed."""

    run: RunJob

    def figure(self) -> dict[str, Any]:
        return figure_of(self.run, self.metric.name)


@dataclass(frozen=True)
class KnownGoal(Goal):
    """The metric's value for a model that has learned everything; `base` is the untuned base's figure."""

    value: float
    base: Figure = field(compare=False)  # it cannot be hashed

    def figure(self) -> dict[str, Any]:
        known = {"value": self.value, "base": self.base.value}
        return known | {name: getattr(self.base, name) for name in ("n", "unit", "extractor")}


def run_goals(goals: Sequence[RunGoal], launcher: Launcher) -> None:
    """Run the goals that have no record yet. Raises UsageError if one ends without a record."""
    from experiments.sweeping.display import run_jobs

    def check_record(ended: Ended) -> tuple[Job, ...]:
        recorded_job(ended)
        return ()

    missing = [goal.run for goal in goals if goal.run.folder.result() is None]
    if missing:
        run_jobs(missing, launcher, f"runs of {goals[0].name}", check_record)


def recorded_job(ended: Ended) -> Job:
    """The job of an event, which left a record, if only of a failure. Raises UsageError if it left none."""
    if ended.job.folder.result() is None:
        raise UsageError(
            f"{ended.job.label}: {ended.reason}; finished runs are on disk, and the same command resumes the search"
        )
    return ended.job


def figure_of(run: RunJob, metric: str) -> dict[str, Any]:
    """The figure in a run's record, with its interval and n; its value is None if the run failed."""
    record = run.folder.result()
    if record is None:
        raise UsageError(f"{run.label} has no record")
    figure = record["metrics"][metric] if record["status"] == "finished" else {}
    return {name: figure.get(name) for name in FIGURE_FIELDS} | {
        "run": str(run.folder.path.relative_to(run.root)),
        "learning_rate": run.config.train.learning_rate,
        "reason": record["reason"],
    }
