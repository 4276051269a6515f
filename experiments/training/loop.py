"""The one training loop. It knows no method and no task by name, so comparisons are equal: nothing can differ."""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from tqdm import tqdm

from adapters.base import Attachment
from experiments.config import ResolvedTrain, Train
from experiments.errors import UsageError
from experiments.measure.memory import TrainingMemory
from experiments.records.failures import Diverged
from experiments.records.folder import processor
from experiments.training import checkpoint
from experiments.training.callbacks import Callback
from experiments.training.divergence import first_not_finite
from experiments.training.optimizer import MovingAverage, optimizer_of, schedule_of
from experiments.training.signals import Interrupted, Interruption
from tasks import distributed
from tasks.base import PreparedTask


@dataclass(frozen=True)
class Trained:
    """What training gives the record. Seconds are wall-clock, of all sessions of a resumed run; `step_median` is that
    of one optimizer step. `differs`: what changed at a resumption and may change the last bits.
    """

    seconds: float
    step_median: float
    final_loss: float
    resumed_from: int
    memory: Mapping[str, Any]
    differs: list[str]


class LossModule(nn.Module):
    """The loss as a module, so that data parallel training wraps forward and loss as one."""

    def __init__(self, model: nn.Module, loss: Callable[[Any], Tensor]):
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Any) -> Tensor:
        return self.loss(batch)


def make_accelerator(settings: ResolvedTrain, folder: Path | None = None) -> Accelerator:
    """accelerate's Accelerator for these settings; one process may make several with different precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=settings.device == "cpu" or not torch.cuda.is_available(),
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        log_with=None if settings.report_to == "none" else settings.report_to,
        project_dir=folder,
        step_scheduler_with_optimizer=False,
    )


@contextlib.contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """A context in which CUDA's algorithms give the same bits each time, where `wanted`."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


class Trainer:
    """One training: the loop, its log `steps.jsonl` and its checkpoints in `folder`.

    `check_writer` raises where this process may write to the folder no longer.
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
    ):
        self.prepared, self.attachment, self.folder = prepared, attachment, folder
        self.interruption, self.check_writer = interruption or Interruption(), check_writer
        self.settings = resolved = ResolvedTrain.of(settings, prepared.train_items)
        self.accelerator = make_accelerator(resolved, folder)
        self.device: Any = self.accelerator.device
        self.memory = TrainingMemory()
        self.callbacks = [self.memory, *callbacks]
        self.owned = attachment.parameters()
        optimizer = optimizer_of(resolved, self.owned.values())
        self.schedule = schedule_of(resolved, optimizer)
        self.average = None if resolved.ema_decay is None else MovingAverage(self.owned, resolved.ema_decay)
        self.loss_module, self.optimizer = self.accelerator.prepare(
            LossModule(prepared.backbone.model, prepared.loss), optimizer
        )
        self.log_file, self.checkpoint = folder / "steps.jsonl", folder / "checkpoint"
        averages = {} if self.average is None else self.average.values
        self.parts = checkpoint.Parts(self.owned, self.optimizer, self.schedule, self.accelerator.scaler, averages)

    def run(self) -> Trained:
        """Train to the last step, from the last checkpoint where there is one; the end is a checkpoint too.

        Raises Diverged, and Interrupted once a step that a signal fell into is done and saved.
        """
        settings, model = self.settings, self.prepared.backbone.model
        self.start = self._resume()
        self.began = time.perf_counter()
        model.train()
        self.prepared.backbone.set_gradient_checkpointing(settings.gradient_checkpointing)
        if self.accelerator.log_with:
            self.accelerator.init_trackers("adapter-testbed")
        with self._log() as log, self._bar() as bar, self.interruption.deferred(), self._callbacks():
            for step in range(self.start.step, settings.steps):
                self._after_step(step, self.step(step), log, bar)
        for tracker in self.accelerator.trackers:  # end_training() would part the processes: evaluation needs them
            tracker.finish()
        model.eval()
        if self.average is not None:
            self.average.put(self.average.values)
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

    def _batches(self, step: int) -> list[Any]:
        """This process's batches of one optimizer step: of the step's consecutive batches, every n-th."""
        whole = self.settings.gradient_accumulation_steps * distributed.world_size()
        mine = range(step * whole + distributed.rank(), (step + 1) * whole, distributed.world_size())
        return [next(self.prepared.batches(self.settings.seed, place, self.settings.batch_size)) for place in mine]

    def _weights(self, batches: list[Any]) -> list[float]:
        """What each batch counts in the mean over the step's batches, 1 where all are worth the same."""
        worth = [self.prepared.weight(batch) for batch in batches]
        own = torch.tensor(sum(worth), dtype=torch.float64, device=self.device)
        whole: Any = self.accelerator.reduce(own, "sum")
        return [each * len(batches) * distributed.world_size() / whole.item() for each in worth]

    def step(self, step: int) -> dict[str, Any]:
        """One optimizer step; everything random in it is drawn from (seed, step).

        Its loss and gradient are those of one batch of all that the processes take in the step.
        """
        settings = self.settings
        began = time.perf_counter()
        self._seed(step)
        batches = self._batches(step)
        total: Any = torch.zeros((), device=self.device)
        norm: Any = None
        for batch, weight in zip(batches, self._weights(batches), strict=True):
            with self.accelerator.accumulate(self.loss_module):
                loss = self.loss_module(batch) * weight
                self.accelerator.backward(loss)
                total += loss.detach() / settings.gradient_accumulation_steps
                if self.accelerator.sync_gradients:
                    total = self.accelerator.reduce(total, "mean")
                    norm = self.accelerator.clip_grad_norm_(self.owned.values(), settings.max_grad_norm)
                    self._check_finite(step, total, norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
        rate = self.optimizer.param_groups[0]["lr"]
        self.schedule.step()
        if self.average is not None:
            self.average.update(step + 1)
        return {
            "step": step + 1,
            "loss": total.item(),
            "learning_rate": rate,
            "gradient_norm": float(norm),
            "seconds": round(time.perf_counter() - began, 5),
        }

    def _seed(self, step: int) -> None:
        """Of dropout, each process its own; a batch's items have their own generators."""
        torch.manual_seed((self.settings.seed * 1_000_003 + step + (distributed.rank() << 40)) % 2**63)

    def _check_finite(self, step: int, loss: Tensor, norm: Any) -> None:
        """Raise Diverged before the optimizer takes the step. In fp16 the loss scaling skips steps that overflow."""
        if math.isfinite(loss.item()) and (self.accelerator.scaler is not None or math.isfinite(float(norm))):
            return
        own = [self._not_finite(step)]
        names = distributed.map_across_ranks([None] * distributed.world_size(), lambda _: own[0])
        name = next(filter(None, names), "the sum of the losses")
        raise Diverged(
            f"diverged: {name} is not finite at step {step + 1}; a lower --train.learning-rate than "
            f"{self.settings.learning_rate:g} may help, unless the data or the base are at fault"
        )

    def _not_finite(self, step: int) -> str | None:
        """What is not finite first in this process's batches of the step."""
        self._seed(step)
        model, loss = self.prepared.backbone.model, self.accelerator.unwrap_model(self.loss_module)
        names = (first_not_finite(model, self.owned, batch, loss) for batch in self._batches(step))
        return next(filter(None, names), None)

    def _after_step(self, step: int, line: dict[str, Any], log: TextIO, bar: tqdm) -> None:
        done = step + 1
        settings = self.settings
        if done % settings.validation_steps == 0 or done == settings.steps:
            line["validation_loss"] = loss = self._validate(done)
            for callback in self.callbacks:
                callback.on_validation(self, done, loss)
        log.write(json.dumps(line) + "\n")
        if self.accelerator.log_with:
            self.accelerator.log({k: v for k, v in line.items() if k != "step"}, step=done)
        bar.update()
        bar.set_postfix_str(f"loss {line['loss']:.3f}", refresh=False)
        for callback in self.callbacks:
            callback.on_step(self, done, line)
        asked = distributed.on_main(lambda: self.interruption.asked)
        if done % settings.checkpointing_steps == 0 or done == settings.steps or asked is not None:
            distributed.on_main(lambda: self._save(done, log))
        if asked is not None:
            raise Interrupted(asked, f"step {done} of {settings.steps} is saved; the same command resumes from there")

    def _log(self) -> TextIO:
        """The step log, which the main process alone writes."""
        return (self.log_file if distributed.is_main() else Path(os.devnull)).open("a", buffering=1)

    def _validate(self, step: int) -> float:
        """The validation loss of what the run would give now; its pictures or texts go to samples/."""
        model = self.prepared.backbone.model
        model.eval()
        with contextlib.nullcontext() if self.average is None else self.average.applied():
            loss = self.prepared.validation_loss()
            self.prepared.illustrate(self.folder / "samples", step)
        model.train()
        return loss

    def _bar(self) -> tqdm:
        quiet = not self.accelerator.is_main_process
        return tqdm(total=self.settings.steps, initial=self.start.step, desc="training", unit="step", disable=quiet)

    def _save(self, step: int, log: TextIO) -> None:
        """A checkpoint. The log is on the disk before it, so that the log is never shorter than a checkpoint says."""
        self.check_writer()
        log.flush()
        os.fsync(log.fileno())
        progress = checkpoint.Progress(
            step=step,
            batches=step * self.settings.gradient_accumulation_steps * distributed.world_size(),
            log_bytes=os.fstat(log.fileno()).st_size,
            seconds=self._seconds(),
            peak=self._peak(),
            made_with=self._made_with(),
        )
        checkpoint.save(self.checkpoint, self.parts, progress)

    def _resume(self) -> checkpoint.Progress:
        """Load the last checkpoint and cut the log back to it; where to go on from."""
        found = checkpoint.load(self.checkpoint, self.parts)
        if not distributed.is_main():
            return found
        self.log_file.touch()
        if self.log_file.stat().st_size < found.log_bytes:
            raise UsageError(f"'{self.log_file}' is shorter than its checkpoint says: --overwrite runs it anew")
        os.truncate(self.log_file, found.log_bytes)
        return found

    def _trained(self) -> Trained:
        lines = [json.loads(line) for line in self.log_file.read_text().splitlines()]
        durations = [line["seconds"] for line in lines]
        now = self._made_with()
        differs = [f"{k}: {v}, then {now[k]}" for k, v in (self.start.made_with or now).items() if v != now[k]]
        return Trained(
            self._seconds(), statistics.median(durations), lines[-1]["loss"], self.start.step, self._peak(), differs
        )

    def _seconds(self) -> float:
        return self.start.seconds + time.perf_counter() - self.began

    def _peak(self) -> Mapping[str, Any]:
        """The largest of all sessions."""
        now = self.memory.as_record()
        return max(now, self.start.peak or {"peak_bytes": 0}, key=lambda peak: peak["peak_bytes"])

    def _made_with(self) -> dict[str, Any]:
        """What the last bits of a result depend on beside the configuration."""
        device = self.accelerator.device
        kind = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
        return {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": f"{device.type}: {kind}"}
