"""What a run's record says of memory: the peak of its training steps, and the categories of the first ones."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

from experiments.measure.memory_tracker import MemoryTracker
from experiments.training.callbacks import Callback

CLEAR_PEAK = Path("/proc/self/clear_refs")  # writing 5 resets VmHWM (Linux, proc(5))
STATUS = Path("/proc/self/status")
LEDGER_STEPS = 2  # the first makes the optimizer's state, the second has it from its start


class TrainingMemory(Callback):
    """A callback that measures a training's peak memory; validation and evaluation do not count.

    On CUDA the allocator's peak is read around every step; on a CPU the resident set's is that of the training.
    """

    def __init__(self) -> None:
        self.on_cuda = False
        self.cuda_peak, self.steps, self.in_step = 0, 0, False
        self.categories: dict[str, int] | None = None
        self.ledger, self.counting = MemoryTracker(), contextlib.ExitStack()
        self.hooks: list[Any] = []

    def on_start(self, trainer: Any) -> None:
        """Hook the forward pass and the optimizer of `trainer`, a `Trainer`."""
        self.on_cuda = trainer.accelerator.device.type == "cuda"
        self.ledger.watch(trainer.loss_module, trainer.optimizer)
        self.hooks = [
            trainer.loss_module.register_forward_pre_hook(lambda *_: self._begin()),
            trainer.optimizer.optimizer.register_step_post_hook(lambda *_: self._end()),
        ]
        with contextlib.suppress(OSError):
            CLEAR_PEAK.write_text("5")

    def _begin(self) -> None:
        """The first batch of a step; others follow where gradients are accumulated."""
        if self.in_step:
            return
        self.in_step = True
        if self.steps < LEDGER_STEPS:
            self.counting.enter_context(self.ledger)
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()

    def _end(self) -> None:
        self.counting.close()
        self.in_step = False
        self.steps += 1
        if self.steps <= LEDGER_STEPS:
            self.categories = self.ledger.peak
        if self.on_cuda:
            self.cuda_peak = max(self.cuda_peak, torch.cuda.max_memory_allocated())

    def on_end(self, trainer: Any) -> None:
        self.counting.close()
        self.ledger.unwatch()
        for hook in self.hooks:
            hook.remove()

    def as_record(self) -> dict[str, Any]:
        """The peak in bytes and how it was counted; by category the bytes at the peak of the first steps."""
        cuda = {"peak_bytes": self.cuda_peak, "how": "CUDA allocator, training steps"}
        whole = cuda if self.on_cuda else resident_peak()
        if self.categories is None:
            return whole
        how = f"storages of the first {LEDGER_STEPS} steps at their peak; what a kernel takes for itself is not seen"
        return whole | {"categories": self.categories, "categories_how": how}


def resident_peak() -> dict[str, Any]:
    """The process's peak since it was last reset, where the system can do that, in bytes; and how it was counted."""
    with contextlib.suppress(OSError, StopIteration):
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return {"peak_bytes": int(line.split()[1]) * 1024, "how": "peak resident set of the process while training"}
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"peak_bytes": peak, "how": "peak resident set of the process since it started"}
