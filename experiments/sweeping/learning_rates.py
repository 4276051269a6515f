"""Search for the learning rate: every setting tries the same number of rates, on a share of its steps.

A setting is a method at one size on one task; its rates lie around the one that it would take without a search. The
choice uses the task's validation loss alone: a trial is never evaluated on test items and is not a run of a report.
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

FOLDER = ".learning-rates"  # below the runs' folder; reports skip it
MEASURE = "validation loss at the last step of the trial"


@dataclass(frozen=True, eq=False)
class Trial(Job):
    """Training with one rate on a share of the steps. A rate that diverges is a result too."""

    @property
    def description(self) -> str:
        return f"{super().description}, trial at learning rate {self.config.train.learning_rate:g}"

    @property
    def file(self) -> Path:
        return self.folder.path / "trial.json"

    @property
    def done(self) -> bool:
        return self.file.exists()

    def result(self) -> dict[str, Any]:
        """The trial's rate, its validation loss (None if it failed) and the reason for a failure."""
        return json.loads(self.file.read_text())

    def state(self) -> str:
        return f"finished: {self.outcome()}" if self.done else self.progress()

    def outcome(self) -> str:
        result = self.result()
        return result["failure"] or f"validation loss {result['validation_loss']:.4g}"

    def perform(self, prepared: PreparedTask) -> str | None:
        from experiments.records.run_lock import only_writer
        from experiments.training.signals import Interruption

        with Interruption() as interruption, only_writer(self.folder.path) as check_writer:
            if not self.done:
                self.folder.write_config(self.config)
                loss, failure = self._train(prepared, interruption, check_writer)
                rate = self.config.train.learning_rate
                write_json(self.file, {"learning_rate": rate, "validation_loss": loss, "failure": failure})
        shutil.rmtree(self.folder.checkpoint, ignore_errors=True)
        return None

    def _train(
        self, prepared: PreparedTask, interruption: Interruption, check_writer: Callable[[], None]
    ) -> tuple[float | None, str | None]:
        """The validation loss, or the reason why there is none."""
        from experiments.records.failures import DiskFull, RunFailure, failures_are_records
        from experiments.session import reserve_and_attach
        from experiments.training.loop import Trainer

        folder, attachment = self.folder.path, reserve_and_attach(self.config, prepared)
        settings = self.config.for_items(prepared.train_items)
        try:
            with failures_are_records(folder, lambda: None):
                trainer = Trainer(prepared, attachment, settings, folder, interruption, check_writer)
                trainer.run()
        except DiskFull:
            raise  # not the rate's fault
        except RunFailure as failed:
            return None, str(failed)
        finally:
            attachment.detach()
        loss = trainer.log.lines()[-1]["validation_loss"]
        return (loss, None) if math.isfinite(loss) else (None, "the validation loss is not finite")


@dataclass(frozen=True)
class LearningRateSearch:
    """`count` rates, neighbours `factor` apart, each tried on `share` of the steps (and of the warmup)."""

    count: int
    factor: float = 2.0
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.count < 2:
            raise UsageError(f"--search-lr must be at least 2 rates, not {self.count}")
        if not self.factor > 1:
            raise UsageError(f"--search-factor must be above 1, not {self.factor:g}")
        if not 0 < self.share <= 1:
            raise UsageError(f"--search-share must be above 0 and at most 1, not {self.share:g}")

    def rates(self, centre: float) -> list[float]:
        """The grid in ascending order, symmetric about `centre` on a log scale, rounded to four digits."""
        middle = (self.count - 1) / 2
        return [float(f"{centre * self.factor ** (i - middle):.4g}") for i in range(self.count)]

    def trials(self, config: RunConfig, runs: Path) -> list[Trial]:
        """The trials for a resolved configuration. Raises UsageError if it has no number of steps."""
        train = config.train
        if not train.steps:
            raise UsageError("a learning-rate search needs --train.steps: each trial takes a share of them")
        assert train.learning_rate is not None, "the configuration is not resolved"
        steps = max(1, round(self.share * train.steps))
        warmup_steps = None if train.warmup_steps is None else round(self.share * train.warmup_steps)
        warmup_steps = 0 if steps == 1 else warmup_steps
        short = replace(train, steps=steps, warmup_steps=warmup_steps, validation_steps=steps)
        return [
            Trial(replace(config, train=replace(short, learning_rate=rate)), runs / FOLDER)
            for rate in self.rates(train.learning_rate)
        ]

    def chosen(self, trials: Sequence[Trial]) -> dict[str, Any]:
        """The search's entry in the records. `chosen` is None if no rate has a finite loss."""
        results = [trial.result() for trial in trials]
        losses = {result["learning_rate"]: result["validation_loss"] for result in results}
        finite = {rate: loss for rate, loss in losses.items() if loss is not None}
        best = min(finite, key=lambda rate: finite[rate]) if finite else None
        train = trials[0].config.train
        return {
            "chosen": best,
            "edge": {min(losses): "lowest", max(losses): "highest"}.get(best),
            "chosen_by": MEASURE,
            "trials": results,
            "steps": train.steps,
            "share": self.share,
            "factor": self.factor,
            "seed": train.seed,
        }


@dataclass(frozen=True)
class SeedGroup:
    """Configurations that differ only in the seed, and the trials, if any, that choose their learning rate."""

    configs: Sequence[RunConfig]
    root: Path
    search: LearningRateSearch | None = None
    trials: Sequence[Trial] = ()

    def outcome(self) -> dict[str, Any] | None:
        """The search's entry in the records; None without a search. Raises UsageError if it chose no rate."""
        if self.search is None:
            return None
        if not all(trial.done for trial in self.trials):
            raise UsageError("its learning-rate search is not complete")
        search = self.search.chosen(self.trials)
        if search["chosen"] is None:
            reasons = sorted({result["failure"] for result in search["trials"]})
            raise UsageError(f"training failed at every learning rate of the search: {'; '.join(reasons)}")
        return search

    def runs(self) -> list[RunJob]:
        """One run per configuration, at the chosen rate. Raises UsageError if the search chose none."""
        search = self.outcome()
        if search is None:
            return [RunJob(config, self.root) for config in self.configs]
        trained = [replace(config.train, learning_rate=search["chosen"]) for config in self.configs]
        pairs = zip(self.configs, trained, strict=True)
        return [RunJob(replace(config, train=train), self.root, search) for config, train in pairs]


def seed_groups(configs: Sequence[RunConfig], root: Path, search: LearningRateSearch | None) -> list[SeedGroup]:
    """Resolved configurations grouped by everything but the seed, in order; trials use a group's first seed."""
    groups: dict[str, list[RunConfig]] = {}
    for config in configs:
        seedless = replace(config, train=replace(config.train, seed=0))
        groups.setdefault(json.dumps(seedless.as_record(), sort_keys=True, default=str), []).append(config)
    if search is None:
        return [SeedGroup(group, root) for group in groups.values()]
    return [SeedGroup(group, root, search, search.trials(group[0], root)) for group in groups.values()]
