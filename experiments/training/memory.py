"""The memory of a run's record: the peak of its training steps, and bytes by category in the first steps."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import torch

from experiments.training.callbacks import Callback
from experiments.training.memory_tracker import MemoryTracker

CLEAR_PEAK = Path("/proc/self/clear_refs")  # writing 5 resets VmHWM (Linux, proc(5))
STATUS = Path("/proc/self/status")
TRACKED_STEPS = 2  # the first creates the optimizer state, the second starts with it


class TrainingMemory(Callback):
    """A callback that measures the peak memory of training steps, without validation and evaluation.

    On CUDA the allocator's peak is read around every step; on a CPU it is the resident set's peak during training.
    """

    def __init__(self) -> None:
        self.on_cuda = False
        self.cuda_peak, self.steps, self.in_step = 0, 0, False
        self.categories: dict[str, int] | None = None
        self.tracker, self.tracking = MemoryTracker(), contextlib.ExitStack()
        self.hooks: list[Any] = []

    def on_start(self, trainer: Any) -> None:
        """Hook the forward pass and the optimizer of `trainer`, a `Trainer`."""
        self.on_cuda = trainer.accelerator.device.type == "cuda"
        self.tracker.watch(trainer.loss_module, trainer.optimizer)
        self.hooks = [
            trainer.loss_module.register_forward_pre_hook(lambda *_: self._start_step()),
            trainer.optimizer.optimizer.register_step_post_hook(lambda *_: self._end_step()),
        ]
        with contextlib.suppress(OSError):
            CLEAR_PEAK.write_text("5")

    def _start_step(self) -> None:
        """Before a step's first micro-batch; gradient accumulation calls this for the later ones too."""
        if self.in_step:
            return
        self.in_step = True
        if self.steps < TRACKED_STEPS:
            self.tracking.enter_context(self.tracker)
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()

    def _end_step(self) -> None:
        self.tracking.close()
        self.in_step = False
        self.steps += 1
        if self.steps <= TRACKED_STEPS:
            self.categories = self.tracker.peak
        if self.on_cuda:
            self.cuda_peak = max(self.cuda_peak, torch.cuda.max_memory_allocated())

    def on_end(self, trainer: Any) -> None:
        self.tracking.close()
        self.tracker.unwatch()
        for hook in self.hooks:
            hook.remove()

    def as_record(self) -> dict[str, Any]:
        """The peak in bytes and how it was measured, and the bytes by category at the peak of the first steps."""
        cuda = {"peak_bytes": self.cuda_peak, "how": "CUDA allocator, training steps"}
        peak = cuda if self.on_cuda else resident_peak()
        if self.categories is None:
            return peak
        how = f"tensor storages at the peak of the first {TRACKED_STEPS} steps, without the kernels' own workspace"
        return peak | {"categories": self.categories, "categories_how": how}


def resident_peak() -> dict[str, Any]:
    """The process's peak resident set in bytes (since the last reset, if the system has one), and how it was read."""
    with contextlib.suppress(OSError, StopIteration):
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return {"peak_bytes": int(line.split()[1]) * 1024, "how": "peak resident set of the process while training"}
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"peak_bytes": peak, "how": "peak resident set of the process since it started"}
