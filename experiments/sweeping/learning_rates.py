"""Search for the learning rate: the same search for every method at every size on every task.

The first grid lies around the rate that the setting would take without a search. It grows until its best rate has a
neighbour on each side, and is then refined once between them. All grids of a factor are parts of one series, so that
the searches of several sizes tried the same rates. The choice uses the task's validation loss alone: a trial is never
evaluated on test items and is not a run of a report. `rates_file` writes searches for a base.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.base import Adapter
from adapters.bounds import LARGEST_COUNT
from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.sweeping.jobs import RunJob
from experiments.sweeping.trial import Trial
from experiments.training.settings import LARGEST_RATE, Train

FOLDER = ".learning-rates"  # below the runs' folder; reports skip it
MEASURE = "validation loss at the last step of the trial"
ORIGIN = 1e-3  # a rate of every series
MOST_GROWTH = 4  # rates added to the first grid, on each side


@dataclass(frozen=True)
class LearningRateSearch:
    """`count` rates to begin with, neighbours `factor` apart, each tried on `share` of the steps (and of the warmup).

    A rate whose training fails is worse than any that ends with a finite loss.
    """

    count: int = 5
    factor: float = 3.0
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.count < 2:
            raise UsageError(f"--search-lr must be at least 2 rates, not {self.count}")
        if not self.factor > 1:
            raise UsageError(f"--search-factor must be above 1, not {self.factor:g}")
        if not 0 < self.share <= 1:
            raise UsageError(f"--search-share must be above 0 and at most 1, not {self.share:g}")

    def rates(self, centre: float, growth_below: int = 0, growth_above: int = 0) -> list[float]:
        """The grid in ascending order: before its growth, the `count` rates of the series closest to `centre`."""
        lowest = round(self._place(centre) - (self.count - 1) / 2) - growth_below
        grid = [self._rate(lowest + i) for i in range(growth_below + self.count + growth_above)]
        return [rate for rate in grid if rate <= LARGEST_RATE]

    def wanted(self, centre: float, losses: Mapping[float, float | None]) -> list[float]:
        """The rates to try next after those in `losses` (None if the training failed); empty once the search is over.

        First the grid, then one rate beyond the end at which the best one lies, as long as it does, up to MOST_GROWTH
        on each side; at last the middle (on the log scale) between the best rate and each neighbour.
        """
        below = above = 0
        while True:
            grid = self.rates(centre, below, above)
            if missing := [rate for rate in grid if rate not in losses]:
                return missing
            best = min(grid, key=lambda rate: _badness(losses[rate]))
            if best == grid[0] and below < MOST_GROWTH:
                below += 1
            elif best == grid[-1] and above < MOST_GROWTH and grid[-1] * self.factor <= LARGEST_RATE:
                above += 1
            else:
                break
        middles = (self._rate(round(self._place(best)) + side) for side in (-0.5, 0.5))
        return [rate for rate in middles if rate not in losses and rate <= LARGEST_RATE and losses[best] is not None]

    def _place(self, rate: float) -> float:
        """Where the rate lies in the series of all grids."""
        return math.log(rate / ORIGIN, self.factor)

    def _rate(self, place: float) -> float:
        """The rate at this place, rounded to four digits."""
        return float(f"{ORIGIN * self.factor**place:.4g}")

    def config(self, config: RunConfig, rate: float) -> RunConfig:
        """The configuration of a trial: a share of the resolved `config`'s steps or epochs, validated at its end.

        Runs that differ in their evaluation alone have the same trials. Raises UsageError for less than half an epoch.
        """
        train = config.train
        whole = train.epochs if train.steps is None else train.steps
        assert whole is not None, "the configuration is not resolved"
        length = max(1, round(self.share * whole))
        warmup_steps = None if train.warmup_steps is None else round(self.share * train.warmup_steps)
        if train.steps is None:
            if length / whole > 2 * self.share:
                raise UsageError(
                    f"--search-share {self.share:g} of {whole} epochs is less than half an epoch: give a larger share, "
                    "or --train.steps"
                )
            short: dict[str, Any] = {"epochs": length, "validation_steps": LARGEST_COUNT}
        else:
            short = {"steps": length, "validation_steps": length}
            warmup_steps = 0 if length == 1 else warmup_steps
        short |= {"warmup_steps": warmup_steps, "evaluate_every": None}
        task = replace(config, task=config.task.training_alone()).resolved().task
        return replace(config, task=task, train=replace(train, learning_rate=rate, **short))

    def chosen(self, trials: Sequence[Trial], run: Train) -> dict[str, Any]:
        """The entry of a `run`'s search in the records. `chosen` is None if no rate has a finite loss."""
        results = sorted((trial.result() for trial in trials), key=lambda result: result["learning_rate"])
        rates = [result["learning_rate"] for result in results]
        best = min(results, key=lambda result: _badness(result["validation_loss"]))
        chosen = None if best["validation_loss"] is None else best["learning_rate"]
        train = trials[0].config.train
        return {
            "chosen": chosen,
            "edge": {min(rates): "lowest", max(rates): "highest"}.get(chosen),
            "chosen_by": MEASURE,
            "trials": [{name: value for name, value in result.items() if name != "steps"} for result in results],
            "steps": train.steps or results[0]["steps"],
            "share": self.share if run.epochs is None else (train.epochs or 0) / run.epochs,
            "factor": self.factor,
            "seed": train.seed,
        }


def _badness(loss: float | None) -> float:
    return math.inf if loss is None else loss


@dataclass(frozen=True)
class SeedGroup:
    """Configurations that differ only in the seed, and the search, if any, that chooses their learning rate."""

    configs: Sequence[RunConfig]
    root: Path
    search: LearningRateSearch | None = None
    varied: tuple[str, ...] = ()  # settings, as in `Job`

    @property
    def adapter(self) -> Adapter:
        return self.configs[0].adapter

    def trials(self) -> list[Trial]:
        """The trials so far: the finished ones, and those to do next. Trials use the first seed."""
        if self.search is None:
            return []
        centre = self.configs[0].train.learning_rate
        assert centre is not None, "the configuration is not resolved"
        finished: dict[float, Trial] = {}
        losses: dict[float, float | None] = {}
        while wanted := self.search.wanted(centre, losses):
            trials = [self._trial(rate) for rate in wanted]
            if not all(trial.done for trial in trials):
                return [*finished.values(), *trials]
            finished |= zip(wanted, trials, strict=True)
            losses |= {rate: trial.result()["validation_loss"] for rate, trial in zip(wanted, trials, strict=True)}
        return list(finished.values())

    def _trial(self, rate: float) -> Trial:
        assert self.search is not None
        return Trial(self.search.config(self.configs[0], rate), self.root / FOLDER, self.varied)

    def outcome(self) -> dict[str, Any] | None:
        """The search's entry in the records; None without a search. Raises UsageError if it chose no rate."""
        if self.search is None:
            return None
        trials = self.trials()
        if not all(trial.done for trial in trials):
            raise UsageError("its learning-rate search is not complete: the same command resumes it")
        search = self.search.chosen(trials, self.configs[0].train)
        if search["chosen"] is None:
            reasons = sorted({result["failure"] for result in search["trials"]})
            raise UsageError(f"training failed at every learning rate of the search: {'; '.join(reasons)}")
        return search

    def runs(self) -> list[RunJob]:
        """One run per configuration, at the chosen rate. Raises UsageError if the search chose none."""
        search = self.outcome()
        if search is None:
            return [RunJob(config, self.root, self.varied) for config in self.configs]
        trained = [replace(config.train, learning_rate=search["chosen"]) for config in self.configs]
        pairs = zip(self.configs, trained, strict=True)
        return [RunJob(replace(config, train=train), self.root, self.varied, search) for config, train in pairs]


def seed_groups(
    configs: Iterable[RunConfig], root: Path, search: LearningRateSearch | None, varied: tuple[str, ...] = ()
) -> list[SeedGroup]:
    """Resolved configurations grouped by everything but the seed, in order; `varied` names what the sweep varies."""
    groups: dict[str, list[RunConfig]] = {}
    for config in configs:
        seedless = replace(config, train=replace(config.train, seed=0))
        groups.setdefault(json.dumps(seedless.as_record(), sort_keys=True, default=str), []).append(config)
    return [SeedGroup(group, root, search, varied) for group in groups.values()]
