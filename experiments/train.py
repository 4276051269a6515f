"""The one training loop. It knows no method and no task by name, so comparisons are equal: nothing can differ."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from tqdm import tqdm
from transformers import get_scheduler

from adapters.base import Attachment
from experiments.config import Train
from tasks.base import PreparedTask

Value = TypeVar("Value")


class RunFailure(RuntimeError):
    """Training cannot go on; the reason becomes the failed run's record."""


@dataclass(frozen=True)
class Trained:
    """What training gives the record. Seconds are wall-clock; `step_median` is that of one optimizer step."""

    seconds: float
    step_median: float
    final_loss: float
    resumed_from: int


def given(value: Value | None) -> Value:
    """A setting of a resolved configuration."""
    if value is None:
        raise ValueError("the training settings are not resolved: call RunConfig.resolved() first")
    return value


class LossModule(nn.Module):
    """The loss as a module, so that data parallel training wraps forward and loss as one."""

    def __init__(self, model: nn.Module, loss: Callable[[Any], Tensor]):
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Any) -> Tensor:
        return self.loss(batch)


def make_accelerator(settings: Train, folder: Path | None = None) -> Accelerator:
    """accelerate's Accelerator for these settings; one process may make several with different precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=settings.device == "cpu",
        mixed_precision={"fp32": "no"}.get(settings.precision, settings.precision),
        gradient_accumulation_steps=settings.gradient_accumulation,
        log_with=None if settings.tracker == "none" else settings.tracker,
        project_dir=folder,
        step_scheduler_with_optimizer=False,
    )


class Trainer:
    """One training: the loop, its log `steps.jsonl` and its checkpoints in `folder`."""

    def __init__(self, prepared: PreparedTask, attachment: Attachment, settings: Train, folder: Path):
        self.prepared, self.attachment, self.settings, self.folder = prepared, attachment, settings, folder
        self.accelerator = make_accelerator(settings, folder)
        self.owned = attachment.parameters()
        self.steps, self.batch = given(settings.steps), given(settings.batch)
        self.validate_every = given(settings.validate_every)
        rate = given(settings.learning_rate)
        optimizer = torch.optim.AdamW(self.owned.values(), lr=rate, weight_decay=settings.weight_decay)
        self.schedule = get_scheduler(given(settings.schedule), optimizer, given(settings.warm_up), self.steps)
        self.loss_module, self.optimizer = self.accelerator.prepare(
            LossModule(prepared.backbone.model, prepared.loss), optimizer
        )

    def run(self) -> Trained:
        """Train to the last step, from the last checkpoint where there is one."""
        settings, model = self.settings, self.prepared.backbone.model
        start = self._resume()
        model.train()
        if settings.gradient_checkpointing:
            self.prepared.backbone.enable_gradient_checkpointing()
        batches = self.prepared.batches(settings.seed, start * settings.gradient_accumulation, self.batch)
        if self.accelerator.log_with:
            self.accelerator.init_trackers("adapter-testbed")
        began = time.perf_counter()
        loss, durations = torch.tensor(float("nan")), []
        with (self.folder / "steps.jsonl").open("a", buffering=1) as log, self._bar(start) as bar:
            for step in range(start, self.steps):
                line = self._step(step, batches)
                durations.append(line["seconds"])
                loss = line["loss"]
                self._after_step(step, line, log, bar)
        self.accelerator.end_training()
        model.eval()
        return Trained(time.perf_counter() - began, statistics.median(durations or [0.0]), float(loss), start)

    def _step(self, step: int, batches) -> dict[str, Any]:
        """One optimizer step; everything random in it is drawn from (seed, step)."""
        settings = self.settings
        began = time.perf_counter()
        torch.manual_seed((settings.seed * 1_000_003 + step) % 2**63)  # dropout; the batch has its own generator
        total = torch.zeros((), device=self.accelerator.device)
        norm: Any = None
        for _ in range(settings.gradient_accumulation):
            with self.accelerator.accumulate(self.loss_module):
                loss = self.loss_module(next(batches))
                self.accelerator.backward(loss)
                total += loss.detach() / settings.gradient_accumulation
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.owned.values(), settings.maximal_gradient_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
        rate = self.optimizer.param_groups[0]["lr"]
        self.schedule.step()
        value = total.item()
        return {
            "step": step + 1,
            "loss": value,
            "learning_rate": rate,
            "gradient_norm": float(norm),
            "seconds": round(time.perf_counter() - began, 5),
        }

    def _after_step(self, step: int, line: dict[str, Any], log, bar: tqdm) -> None:
        done = step + 1
        settings = self.settings
        if line["loss"] != line["loss"] or abs(line["loss"]) == float("inf"):
            raise RunFailure(
                f"diverged: the loss is {line['loss']} at step {done}; a lower --train.learning-rate than "
                f"{settings.learning_rate:g} may help"
            )
        if done % self.validate_every == 0 or done == self.steps:
            model = self.prepared.backbone.model
            model.eval()
            line["validation_loss"] = self.prepared.validation_loss()
            model.train()
        log.write(json.dumps(line) + "\n")
        if self.accelerator.log_with:
            self.accelerator.log({k: v for k, v in line.items() if k != "step"}, step=done)
        bar.update()
        bar.set_postfix_str(f"loss {line['loss']:.3f}", refresh=False)
        if done % settings.checkpoint_every == 0 and done < self.steps:
            log.flush()
            os.fsync(log.fileno())
            self._save(done)

    def _bar(self, start: int) -> tqdm:
        quiet = not self.accelerator.is_main_process
        return tqdm(total=self.steps, initial=start, desc="training", unit="step", disable=quiet)

    def _save(self, step: int) -> None:
        """A checkpoint, written beside and renamed: the last good one survives a crash in the writing."""
        folder = self.folder / "checkpoint"
        folder.mkdir(exist_ok=True)
        state = {
            "step": step,
            "adapter": self.attachment.state(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        torch.save(state, folder / "state.writing")
        (folder / "state.writing").replace(folder / "state.pt")

    def _resume(self) -> int:
        """Load the last checkpoint and cut the log back to it; the step to go on from."""
        file, log = self.folder / "checkpoint" / "state.pt", self.folder / "steps.jsonl"
        if not file.exists():
            log.unlink(missing_ok=True)
            return 0
        saved = torch.load(file, weights_only=True)
        self.attachment.load(saved["adapter"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        lines = log.read_text().splitlines(keepends=True)[: saved["step"]]
        beside = log.with_suffix(".writing")
        beside.write_text("".join(lines))
        beside.replace(log)
        return saved["step"]


@contextlib.contextmanager
def out_of_memory_is_a_record():
    """Turns running out of memory into a RunFailure that says so."""
    try:
        yield
    except torch.OutOfMemoryError as full:
        reason = str(full).splitlines()[0]
        raise RunFailure(f"out of memory: {reason}; try a smaller --train.batch or gradient checkpointing") from full
    except (MemoryError, RuntimeError) as full:
        if isinstance(full, RunFailure) or "can't allocate memory" not in str(full):
            raise
        raise RunFailure(f"out of memory: {str(full).splitlines()[0]}; try a smaller --train.batch") from full
