"""The training loop of every method and task. It knows none of them by name, so that comparisons are fair."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from tqdm import tqdm

from adapters.base import Attachment
from experiments.config import ResolvedTrain, Train
from experiments.records.failures import Diverged
from experiments.training import checkpoint
from experiments.training.accelerator import LossModule, make_accelerator
from experiments.training.batches import BatchSource
from experiments.training.callbacks import Callback
from experiments.training.compilation import CompiledBlocks
from experiments.training.divergence import divergence, first_not_finite, first_of_all
from experiments.training.logs.quality_curve import QualityCurve
from experiments.training.logs.readings import Readings
from experiments.training.logs.step_log import StepLog, flush_to_disk, write_line
from experiments.training.memory import TrainingMemory
from experiments.training.optimizer import average_of, averaged, optimizer_of, schedule_of
from experiments.training.signals import Interrupted, Interruption
from experiments.training.spacing import CheckpointSpacing
from tasks import distributed
from tasks.base import PreparedTask


@dataclass(frozen=True)
class Trained:
    """The record's entries about a training.

    Seconds are wall-clock time, summed over the sessions of a resumed run; `seconds` excludes those of the quality
    curve, and `step_median` is per optimizer step.
    `differs` lists what changed when the run was resumed and may change the last bits of the result.
    """

    seconds: float
    curve_seconds: float
    step_median: float
    final_loss: float
    resumed_from: int
    memory: Mapping[str, Any]
    differs: list[str]


class Trainer:
    """One training, with its log `steps.jsonl` and its checkpoints in `folder`.

    Callbacks can read `prepared`, `attachment`, `settings`, `loss_module`, `optimizer`, `accelerator` and `folder`.
    `check_writer` raises once another process has taken over the folder.
    """

    def __init__(
        self,
        prepared: PreparedTask,
        attachment: Attachment,
        settings: Train,
        folder: Path,
        interruption: Interruption | None = None,
        check_writer: Callable[[], None] = lambda: None,
        callbacks: Sequence[Callback] = (),
        curve: QualityCurve | None = None,
    ):
        self.prepared, self.attachment, self.folder = prepared, attachment, folder
        self.interruption, self.check_writer = interruption or Interruption(), check_writer
        self.curve, self.curve_seconds = curve, 0.0
        self.settings = resolved = ResolvedTrain.of(settings)
        self.accelerator = make_accelerator(resolved, folder)
        self.device: Any = self.accelerator.device
        self.memory = TrainingMemory(with_categories=not resolved.compile)
        self.callbacks = [self.memory, *callbacks]
        self.owned = attachment.parameters()
        optimizer = optimizer_of(resolved, self.owned.values())
        self.schedule = schedule_of(resolved, optimizer)
        self.average = average_of(resolved, self.owned.values())
        self.loss_module, self.optimizer = self.accelerator.prepare(
            LossModule(prepared.backbone.model, prepared.loss), optimizer
        )
        self.batches = BatchSource(prepared, resolved, self.device)
        every = 1 if self.device.type == "cpu" else resolved.log_every
        self.readings = Readings(every, self.accelerator.scaler is not None, self._diverged)
        self.compiled = CompiledBlocks(prepared.backbone if resolved.compile else None)
        self.log = StepLog(folder / "steps.jsonl")
        self.checkpoint, self.spacing = folder / "checkpoint", CheckpointSpacing()
        averages = {} if self.average is None else dict(zip(self.owned, self.average.shadow_params, strict=True))
        self.parts = checkpoint.Parts(
            self.owned, self.optimizer, self.schedule, self.accelerator.scaler, averages, attachment
        )

    def run(self) -> Trained:
        """Train to the last step, from the last checkpoint if there is one; the last step is a checkpoint too.

        Raises Diverged; after a signal, Interrupted once the current step is finished and saved.
        """
        settings, model = self.settings, self.prepared.backbone.model
        self.start = self._resume()
        self.started = time.perf_counter()
        model.train()
        self.prepared.backbone.set_gradient_checkpointing(settings.gradient_checkpointing)
        if self.accelerator.log_with:
            self.accelerator.init_trackers("adapter-testbed")
        with (
            self.log.open() as log,
            self._bar() as bar,
            self.interruption.deferred(),
            self._callbacks(),
            self.compiled.active(),
            self.batches.in_advance(),
        ):
            for step in range(self.start.step, settings.steps):
                self.step(step)
                if self._is_read_after(step + 1):
                    self._read(step + 1, log, bar)
        for tracker in self.accelerator.trackers:  # not end_training(), which ends the process group too early
            tracker.finish()
        model.eval()
        if self.average is not None:
            self.average.copy_to(self.owned.values())
        return distributed.on_main(self._trained)

    @contextlib.contextmanager
    def _callbacks(self) -> Iterator[None]:
        for callback in self.callbacks:
            callback.on_start(self)
        try:
            yield
        finally:
            for callback in self.callbacks:
                callback.on_end(self)

    def step(self, step: int) -> None:
        """Take optimizer step `step` (from 0); `readings` then has its log line. All randomness is drawn from
        (seed, step).

        Loss and gradient are those of one large batch: all micro-batches of all processes.
        """
        settings, accelerator, optimizer = self.settings, self.accelerator, self.optimizer
        self.readings.begin()
        self._seed(step)
        drawn = self.batches.of(step)
        total: Any = torch.zeros((), device=self.device)
        for batch, weight in zip(drawn.batches, self.batches.weights(drawn, self._sum), strict=True):
            with accelerator.accumulate(self.loss_module):
                loss = self.loss_module(batch) * weight
                regularization = self.attachment.regularization()
                loss = loss if regularization is None else loss + regularization
                accelerator.backward(loss)
                total += loss.detach() / settings.gradient_accumulation_steps
                if accelerator.sync_gradients:
                    total = accelerator.reduce(total, "mean")
                    norm: Any = accelerator.clip_grad_norm_(self.owned.values(), settings.max_grad_norm)
                    rate = optimizer.param_groups[0]["lr"]
                    finite: Any = self.readings.add(step, total, norm, rate, optimizer.optimizer)
                optimizer.step()
                if accelerator.sync_gradients:
                    self.attachment.after_step(step + 1, settings.steps, finite)
                optimizer.zero_grad()
        self.schedule.step()
        if self.average is not None:
            self.average.step(self.owned.values())

    def _sum(self, number: torch.Tensor) -> Any:
        return self.accelerator.reduce(number, "sum")

    def _seed(self, step: int) -> None:
        """Seed dropout, differently in each process; the items of a batch have generators of their own."""
        seed = (self.settings.seed * 1_000_003 + step + (distributed.rank() << 40)) % 2**63
        every_device = self.device.type != "cpu"  # which takes a hundred times as long
        (torch if every_device else torch.default_generator).manual_seed(seed)

    def _diverged(self, step: int) -> Diverged:
        """The error for a step whose loss or gradient is not finite; the weights are still those before this step."""
        self.batches.settle()
        self._seed(step)
        model, loss = self.prepared.backbone.model, self.accelerator.unwrap_model(self.loss_module)
        batches, scaled = self.batches.of(step).batches, self.accelerator.scaler is not None
        with self.compiled.inactive():
            name = first_of_all(first_not_finite(model, self.owned, batch, loss) for batch in batches)
        return divergence(step, name, self.settings.learning_rate, scaled)

    def _is_read_after(self, done: int) -> bool:
        """Whether a step is read now: so many are pending, or what follows has to know that they are finite."""
        settings = self.settings
        intervals = (settings.validation_steps, settings.checkpointing_steps, self.curve and self.curve.every)
        due = any(self._is_due(done, interval) for interval in intervals)
        stopping = distributed.world_size() == 1 and self.interruption.signal is not None
        return self.readings.full or due or stopping

    def _is_due(self, done: int, interval: int | None) -> bool:
        """Whether something comes after this step that comes every `interval` steps and after the last one."""
        return interval is not None and (done % interval == 0 or done == self.settings.steps)

    def _read(self, done: int, log: TextIO, bar: tqdm) -> None:
        """Log the pending steps, then validate and save if it is time. Raises Diverged before either."""
        settings = self.settings
        for line in self.readings.read():
            is_last = line["step"] == done
            if is_last and self._is_due(done, settings.validation_steps):
                self._add_validation(line)
            self._log(line, log, bar)
        if self.curve is not None and self._is_due(done, self.curve.every):
            with self._measuring():
                self.curve_seconds += self.curve.add(done)
        signal = distributed.on_main(lambda: self.interruption.signal)
        if self._is_due(done, settings.checkpointing_steps) or signal is not None:
            needed = done == settings.steps or signal is not None
            distributed.on_main(lambda: self._save(done, log) if needed or self.spacing.is_due() else None)
        if signal is not None:
            raise Interrupted(signal, f"step {done} of {settings.steps} is saved; the same command resumes from there")

    def _add_validation(self, line: dict[str, Any]) -> None:
        loss = self._validate(line["step"])
        if loss is not None:
            line["validation_loss"] = loss
            for callback in self.callbacks:
                callback.on_validation(self, line["step"], loss)

    def _log(self, line: dict[str, Any], log: TextIO, bar: tqdm) -> None:
        write_line(log, line)
        if self.accelerator.log_with:
            self.accelerator.log({k: v for k, v in line.items() if k != "step"}, step=line["step"])
        bar.update()
        bar.set_postfix_str(f"loss {line['loss']:.3f}, {line['seconds']:.3f} s per step", refresh=False)
        for callback in self.callbacks:
            callback.on_step(self, line["step"], line)

    def _validate(self, step: int) -> float | None:
        """The validation loss of the weights that a run ending now would save, unless the data are too few for one.

        Their samples go to samples/.
        """
        with self._measuring():
            loss = self.prepared.validation_loss() if self.prepared.has_validation else None
            self.prepared.illustrate(self.folder / "samples", step)
        return loss

    @contextlib.contextmanager
    def _measuring(self) -> Iterator[None]:
        """Between two steps: the model in evaluation mode, with the weights that a run ending now would save."""
        model = self.prepared.backbone.model
        self.batches.settle()  # drawing one releases frozen parts that pictures are made with
        model.eval()
        with averaged(self.average, self.owned.values()), self.compiled.inactive(), self.memory.paused():
            yield
        model.train()

    def _bar(self) -> tqdm:
        hidden = not self.accelerator.is_main_process
        shown = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"  # tqdm's rate includes validation
        total, done = self.settings.steps, self.start.step
        return tqdm(total=total, initial=done, desc="training", unit="step", disable=hidden, bar_format=shown)

    def _save(self, step: int, log: TextIO) -> None:
        """Save a checkpoint. The log is flushed to disk first, so that it is never shorter than a checkpoint says."""
        self.check_writer()
        log_bytes = flush_to_disk(log)
        progress = checkpoint.Progress(
            step=step,
            batches=step * self.settings.gradient_accumulation_steps * distributed.world_size(),
            log_bytes=log_bytes,
            seconds=self._seconds(),
            curve_seconds=self.start.curve_seconds + self.curve_seconds,
            peak=self._peak(),
            made_with=checkpoint.conditions(self.device),
        )
        self.spacing.timed(lambda: checkpoint.save(self.checkpoint, self.parts, progress))

    def _resume(self) -> checkpoint.Progress:
        """Load the last checkpoint and truncate the log to it; returns where to resume."""
        progress = checkpoint.load(self.checkpoint, self.parts)
        if self.average is not None:
            self.average.optimization_step = progress.step
        self.log.truncate(progress.log_bytes)
        if self.curve is not None:
            self.curve.start(progress.step)
        return progress

    def _trained(self) -> Trained:
        lines = self.log.lines()
        durations = [line["seconds"] for line in lines]
        now = checkpoint.conditions(self.device)
        differs = [f"{k}: {v}, then {now[k]}" for k, v in (self.start.made_with or now).items() if v != now[k]]
        return Trained(
            self._seconds(),
            self.start.curve_seconds + self.curve_seconds,
            statistics.median(durations),
            lines[-1]["loss"],
            self.start.step,
            self._peak(),
            differs,
        )

    def _seconds(self) -> float:
        """Of steps, validation and checkpoints, in all sessions."""
        return self.start.seconds + time.perf_counter() - self.started - self.curve_seconds

    def _peak(self) -> Mapping[str, Any]:
        """The largest peak of all sessions."""
        now = self.memory.as_record()
        return max(now, self.start.peak or {"peak_bytes": 0}, key=lambda peak: peak["peak_bytes"])
