"""One trial of the learning-rate search: a training that ends with its validation loss."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UsageError
from experiments.records.folder import write_json
from experiments.sweeping.jobs import Job

if TYPE_CHECKING:
    from experiments.training.signals import Interruption
    from tasks.base import PreparedTask


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
        """The trial's rate and steps, its validation loss (None if it failed) and the reason for a failure."""
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
                steps = self.config.for_items(prepared.train_items).steps
                result = {"learning_rate": rate, "steps": steps, "validation_loss": loss, "failure": failure}
                write_json(self.file, result)
        shutil.rmtree(self.folder.checkpoint, ignore_errors=True)
        return None

    def _train(
        self, prepared: PreparedTask, interruption: Interruption, check_writer: Callable[[], None]
    ) -> tuple[float | None, str | None]:
        """The validation loss, or the reason why there is none."""
        from experiments.records.failures import DiskFull, RunFailure, failures_are_records
        from experiments.session import reserve_and_attach
        from experiments.training.loop import Trainer

        if not prepared.has_validation:
            raise UsageError(
                "a learning-rate search chooses by the validation loss, but the data are too few for validation items: "
                "use more data, or set --train.learning-rate"
            )
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
