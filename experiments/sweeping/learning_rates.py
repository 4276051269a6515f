"""An equal search of the learning rate: every arm tries as many rates, on a share of its steps, before its runs.

An arm is a method at one size on one task; its rates lie around the one that it would take otherwise. The choice is
made on the task's validation loss alone: a trial is never evaluated on test items and is no run of a report.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.records.folder import write_json
from experiments.sweeping.jobs import Job, RunJob

if TYPE_CHECKING:
    from experiments.training.signals import Interruption
    from tasks.base import PreparedTask

FOLDER = ".learning-rates"  # below the runs' folder; a report takes nothing here for a run
MEASURE = "validation loss at the last step of the trial"


@dataclass(frozen=True, eq=False)
class Trial(Job):
    """One rate of one arm on the short budget. A rate that diverges is an outcome, too."""

    @property
    def what(self) -> str:
        return f"{super().what}, trial at learning rate {self.config.train.learning_rate:g}"

    @property
    def file(self) -> Path:
        return self.folder.path / "trial.json"

    @property
    def done(self) -> bool:
        return self.file.exists()

    def found(self) -> dict[str, Any]:
        """The trial's own record: its rate, its validation loss (None where it failed) and why it failed."""
        return json.loads(self.file.read_text())

    def state(self) -> str:
        return f"finished: {self.outcome()}" if self.done else self.progress()

    def outcome(self) -> str:
        found = self.found()
        return f"validation loss {found['validation_loss']:.4g}" if found["failure"] is None else found["failure"]

    def perform(self, prepared: PreparedTask) -> str | None:
        from experiments.records.run_lock import only_writer
        from experiments.training.signals import Interruption

        with Interruption() as interruption, only_writer(self.folder.path) as check_writer:
            if not self.done:
                loss, failure = self._train(prepared, interruption, check_writer)
                rate = self.config.train.learning_rate
                write_json(self.file, {"learning_rate": rate, "validation_loss": loss, "failure": failure})
        shutil.rmtree(self.folder.checkpoint, ignore_errors=True)
        return None

    def _train(
        self, prepared: PreparedTask, interruption: Interruption, check_writer: Callable[[], None]
    ) -> tuple[float | None, str | None]:
        """The validation loss, or why there is none."""
        from experiments.records.failures import DiskFull, RunFailure, failures_are_records
        from experiments.session import attach
        from experiments.training.loop import Trainer

        folder, attachment = self.folder.path, attach(self.config, prepared)
        try:
            with failures_are_records(folder, lambda: None):
                Trainer(prepared, attachment, self.config.train, folder, interruption, check_writer).run()
        except DiskFull:
            raise  # it says nothing of the rate
        except RunFailure as failed:
            return None, str(failed)
        finally:
            attachment.detach()
        loss = last_validation_loss(folder / "steps.jsonl")
        return loss, "the validation loss is not finite" if loss is None else None


def last_validation_loss(log: Path) -> float | None:
    """The validation loss in the last line of a step log; None where it is not finite."""
    loss = json.loads(log.read_text().splitlines()[-1])["validation_loss"]
    return loss if math.isfinite(loss) else None


@dataclass(frozen=True)
class LearningRateSearch:
    """`count` rates, neighbours `factor` apart, each on `share` of the arm's steps (and of its warm-up)."""

    count: int
    factor: float
    share: float

    def __post_init__(self) -> None:
        if self.count < 2:
            raise UsageError(f"--search-lr must be at least 2 rates, not {self.count}")
        if not self.factor > 1:
            raise UsageError(f"--search-factor must be above 1, not {self.factor:g}")
        if not 0 < self.share <= 1:
            raise UsageError(f"--search-share must be above 0 and at most 1, not {self.share:g}")

    def rates(self, centre: float) -> list[float]:
        """The grid, lowest first, symmetric about `centre` on the log scale; four digits, as people write rates."""
        middle = (self.count - 1) / 2
        return [float(f"{centre * self.factor ** (i - middle):.4g}") for i in range(self.count)]

    def trials(self, config: RunConfig, runs: Path) -> list[Trial]:
        """The trials of one arm, whose first run is `config` (resolved). Raises UsageError where it has no steps."""
        train = config.train
        if train.steps is None:
            raise UsageError("a search of learning rates needs --train.steps: its budget is a share of them")
        steps = max(1, round(self.share * train.steps))
        short = replace(
            train, steps=steps, warmup_steps=round(self.share * (train.warmup_steps or 0)), validation_steps=steps
        )
        return [
            Trial(replace(config, train=replace(short, learning_rate=rate)), runs / FOLDER)
            for rate in self.rates(train.learning_rate or 0.0)
        ]

    def chosen(self, trials: Sequence[Trial]) -> dict[str, Any]:
        """The whole search, as its runs' records keep it. `chosen` is None where no rate has a finite loss."""
        found = [trial.found() for trial in trials]
        losses = {trial["learning_rate"]: trial["validation_loss"] for trial in found}
        finite = {rate: loss for rate, loss in losses.items() if loss is not None}
        best = min(finite, key=lambda rate: finite[rate]) if finite else None
        train = trials[0].config.train
        return {
            "chosen": best,
            "edge": {min(losses): "lowest", max(losses): "highest"}.get(best),
            "chosen_by": MEASURE,
            "trials": found,
            "steps": train.steps,
            "share": self.share,
            "factor": self.factor,
            "seed": train.seed,
        }


@dataclass(frozen=True)
class SeedGroup:
    """Configurations that differ in nothing but the seed, and the trials that choose their learning rate, if any."""

    configs: Sequence[RunConfig]
    root: Path
    search: LearningRateSearch | None = None
    trials: Sequence[Trial] = ()

    def outcome(self) -> dict[str, Any] | None:
        """The search as the records keep it; None without one. Raises UsageError where it does not choose a rate."""
        if self.search is None:
            return None
        if not all(trial.done for trial in self.trials):
            raise UsageError("its search of a learning rate is not complete")
        found = self.search.chosen(self.trials)
        if found["chosen"] is None:
            reasons = sorted({trial["failure"] for trial in found["trials"]})
            raise UsageError(f"no learning rate of its search could be trained with: {'; '.join(reasons)}")
        return found

    def runs(self) -> list[RunJob]:
        """One run a configuration, at the chosen rate. Raises UsageError where the search does not choose one."""
        search = self.outcome()
        if search is None:
            return [RunJob(config, self.root) for config in self.configs]
        trained = [replace(config.train, learning_rate=search["chosen"]) for config in self.configs]
        pairs = zip(self.configs, trained, strict=True)
        return [RunJob(replace(config, train=train), self.root, search) for config, train in pairs]


def arms_of(configs: Sequence[RunConfig], root: Path, search: LearningRateSearch | None) -> list[SeedGroup]:
    """The arms of resolved configurations, in order; the first seed of an arm is that of its trials."""
    found: dict[str, list[RunConfig]] = {}
    for config in configs:
        seedless = replace(config, train=replace(config.train, seed=0))
        found.setdefault(json.dumps(seedless.as_record(), sort_keys=True, default=str), []).append(config)
    if search is None:
        return [SeedGroup(arm, root) for arm in found.values()]
    return [SeedGroup(arm, root, search, search.trials(arm[0], root)) for arm in found.values()]
