"""The memory of a run's record: the peaks of training and evaluation, and bytes by category in the first steps."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from experiments.process.malloc import return_freed_memory
from experiments.training.callbacks import Callback
from experiments.training.memory_tracker import MemoryTracker

CLEAR_PEAK = Path("/proc/self/clear_refs")  # writing 5 resets VmHWM (Linux, proc(5))
STATUS = Path("/proc/self/status")
TRACKED_STEPS = 2  # the first creates the optimizer state, the second starts with it


class TrainingMemory(Callback):
    """A callback that measures the peak memory of training steps, without validation and evaluation.

    On CUDA it is the allocator's peak, without what is `paused`; on a CPU the resident set's peak during training.
    Bytes by category cost a hook for each trained tensor, which is removed after TRACKED_STEPS steps.
    """

    def __init__(self, with_categories: bool = True) -> None:
        self.device = torch.device("cpu")
        self.peak: dict[str, Any] = {"peak_bytes": 0}
        self.steps = 0 if with_categories else TRACKED_STEPS
        self.categories: dict[str, int] | None = None
        self.tracker, self.tracking, self.in_step = MemoryTracker(), contextlib.ExitStack(), False
        self.hooks: list[Any] = []

    def on_start(self, trainer: Any) -> None:
        """Hook the forward pass and the optimizer of `trainer`, a `Trainer`, for the first steps."""
        self.device = trainer.accelerator.device
        if self.steps < TRACKED_STEPS:
            self.tracker.watch(trainer.loss_module, trainer.optimizer)
            self.hooks = [
                trainer.loss_module.register_forward_pre_hook(lambda *_: self._start_step()),
                trainer.optimizer.optimizer.register_step_post_hook(lambda *_: self._end_step()),
            ]
        reset_peak(self.device)

    def _start_step(self) -> None:
        """Before a step's first micro-batch; gradient accumulation calls this for the later ones too."""
        if not self.in_step and self.steps < TRACKED_STEPS:
            self.in_step = True
            self.tracking.enter_context(self.tracker)

    def _end_step(self) -> None:
        if self.in_step:
            self.tracking.close()
            self.in_step = False
            self.steps += 1
            self.categories = self.tracker.peak

    def on_step(self, trainer: Any, step: int, line: dict[str, Any]) -> None:
        """Remove the hooks once they have counted; a hook cannot remove itself."""
        if self.hooks and self.steps >= TRACKED_STEPS:
            self._remove_hooks()

    def _remove_hooks(self) -> None:
        self.tracking.close()
        self.tracker.unwatch()
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A context whose memory does not count, on CUDA."""
        self._read_peak()
        yield
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def _read_peak(self) -> None:
        now = peak(self.device, "training steps", "while training")
        self.peak = max(self.peak, now, key=lambda record: record["peak_bytes"])

    def on_end(self, trainer: Any) -> None:
        self._read_peak()
        self._remove_hooks()

    def as_record(self) -> dict[str, Any]:
        """The peak in bytes and how it was measured, and the bytes by category at the peak of the first steps."""
        self._read_peak()
        if self.categories is None:
            return self.peak
        how = f"tensor storages at the peak of the first {TRACKED_STEPS} steps, without the kernels' own workspace"
        return self.peak | {"categories": self.categories, "categories_how": how}


def reset_peak(device: torch.device) -> None:
    """Start measuring the device's peak memory again, from what is in use now."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what an earlier phase has reserved
        torch.cuda.reset_peak_memory_stats(device)
    else:
        return_freed_memory()
        with contextlib.suppress(OSError):
            CLEAR_PEAK.write_text("5")


def peak(device: torch.device, part: str, when: str) -> dict[str, Any]:
    """The device's peak in bytes since the last reset, and how it was read; on CUDA also the bytes reserved for it."""
    if device.type == "cuda":
        return {
            "peak_bytes": torch.cuda.max_memory_allocated(device),
            "reserved_bytes": torch.cuda.max_memory_reserved(device),
            "how": f"CUDA allocator, {part}",
        }
    return resident_peak(when)


def resident_peak(when: str) -> dict[str, Any]:
    """The process's peak resident set in bytes (since the last reset, if the system has one), and how it was read."""
    with contextlib.suppress(OSError, StopIteration):
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return {"peak_bytes": int(line.split()[1]) * 1024, "how": f"peak resident set of the process {when}"}
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"peak_bytes": size, "how": "peak resident set of the process since it started"}
