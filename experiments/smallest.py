"""One seed of a search for the smallest size that comes close to full fine-tuning; every point is an ordinary run."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.bracket import Bracket, crossing
from experiments.config import RunConfig, UsageError
from experiments.record import RunFolder

if TYPE_CHECKING:
    from adapters.base import Adapter
    from tasks.base import PreparedTask


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
class Study:
    """Sizes of `curves` that reach `threshold` of what `goal` gains over the untuned base in `metric`, on one task."""

    goal: RunConfig
    curves: tuple[Curve, ...]
    threshold: float
    metric: str
    runs: Path

    @property
    def most(self) -> int:
        """Runs of one seed, at most."""
        return 1 + sum(curve.bracket.left() for curve in self.curves)

    def measure(self, seed: int, prepared: PreparedTask | None = None) -> dict[str, Any]:
        """All curves of one seed, against the goal's run of the same seed; `reason` says why there are none."""
        from experiments.run import device_of

        prepared = prepared or self.goal.task.prepare(device_of(self.goal))
        points = Points(self.runs, prepared, self.metric, seed, self.most)
        goal = replace(self.goal, train=replace(self.goal.train, seed=seed)).resolved()
        whole = points.run(goal)
        facts = {"seed": seed, "goal": whole}
        if whole["value"] is None:
            return facts | {"reason": f"{goal.adapter.name} failed in seed {seed}: {whole['reason']}"}
        base, sign = whole["base"], 1 if goal.task.metrics[self.metric].better == "higher" else -1
        if sign * (whole["value"] - base) <= 0:
            return facts | {
                "reason": f"{goal.adapter.name} does not beat the untuned base in seed {seed} ({self.metric} "
                f"{whole['value']:.4g} on {whole['n']} items, the untuned base {base:.4g})"
            }
        target = base + self.threshold * (whole["value"] - base)
        return facts | {"target": target, "curves": [search(curve, points, target, sign) for curve in self.curves]}


def search(curve: Curve, points: Points, target: float, sign: int) -> dict[str, Any]:
    """One curve of one seed: its points in the order measured, and where it crosses `target` (times `sign`, upward)."""
    bracket, found = curve.bracket, []
    while (size := bracket.next()) is not None:
        point = {"size": size} | points.run(curve.at(size, points.seed))
        point["reached"] = point["value"] is not None and sign * (point["value"] - target) >= 0
        shown = f"failed ({point['reason']})" if point["value"] is None else f"{point['value']:.4g}"
        verdict = "reaches" if point["reached"] else "does not reach"
        points.say(f"{curve.name} {curve.field} {size:,}: {shown} {verdict} {target:.4g}")
        found.append(point)
        expected, bracket = bracket.left() - 1, bracket.told(size, point["reached"])
        points.most -= expected - bracket.left()  # runs that this answer spares
    at = crossing(bracket, {point["size"]: point["value"] for point in found}, target)
    head = {"curve": curve.name, "seed": points.seed}
    return head | {"crossing": at.size, "below": at.below, "reaching": at.reaching, "points": found}


class Points:
    """Runs of one seed on one loaded task, at `most` so many; those that have finished before are read."""

    def __init__(self, runs: Path, prepared: PreparedTask, metric: str, seed: int, most: int):
        self.runs, self.prepared, self.metric, self.seed, self.most = runs, prepared, metric, seed, most
        self.seconds: list[float] = []
        self.done = 0

    def run(self, config: RunConfig) -> dict[str, Any]:
        """The point of one run: its figure, interval and n; the value is None where the run failed."""
        folder = RunFolder.create(self.runs, config)
        record = folder.result() or self._execute(config, folder)
        self.done += 1
        figure = record["metrics"][self.metric] if record["status"] == "finished" else {}
        names = ("value", "low", "high", "base", "n", "unit", "extractor")
        return {name: figure.get(name) for name in names} | {
            "run": str(folder.path.relative_to(self.runs)),
            "learning_rate": config.train.learning_rate,
            "reason": record["reason"],
        }

    def _execute(self, config: RunConfig, folder: RunFolder) -> dict[str, Any]:
        from experiments.run import execute

        left = self.most - self.done
        minutes = f", {left * sum(self.seconds) / len(self.seconds) / 60:.0f} minutes" if self.seconds else ""
        self.say(f"{folder.path}: at most {left} runs left of this seed{minutes}")
        began = time.perf_counter()
        record = execute(config, folder, self.prepared)
        self.seconds.append(time.perf_counter() - began)
        return record

    def say(self, text: str) -> None:
        print(f"seed {self.seed}: {text}", flush=True)
