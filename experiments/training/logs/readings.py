"""Loss and gradient norm of each step, kept on the device and read several steps at a time.

Reading a number from a GPU waits until it has finished. Until then no step may follow a loss or gradient that is not
finite, or the weights would be lost with which the cause can be named: the device itself holds them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a number
MOST_SKIPPED = 25  # fp16 steps in a row; every skip halves the loss scale, from 2^16


@dataclass
class Readings:
    """The log lines of steps, once their numbers are read: every `every` steps, on a CPU (which need not wait) each.

    With a gradient `scaler` a norm that is not finite is a step that the scaler skips, unless that happens in
    MOST_SKIPPED steps in a row. `diverged` makes the error for a step (from 0) whose loss or gradient is not finite.
    """

    every: int
    scaled: bool
    diverged: Callable[[int], Exception]
    pending: list[tuple[dict[str, Any], Tensor]] = field(default_factory=list)
    finite: Tensor | None = None  # on the device: whether every step so far was
    started: float = 0.0
    skipped: int = 0
    moments: list[Tensor] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.pending) >= self.every

    def begin(self) -> None:
        """Called at the start of a step."""
        if not self.pending:
            self.started = time.perf_counter()

    def add(self, step: int, loss: Tensor, norm: Tensor, rate: float, optimizer: torch.optim.Optimizer) -> Tensor:
        """Called between gradient and optimizer step; a step that is not finite must change no weight.

        Returns whether this one may change them, a bool on the device: it is finite, and training has not diverged
        before. Raises what `diverged` returns at once if every step is read.
        """
        line = {"step": step + 1, "loss": math.nan, "learning_rate": rate, "gradient_norm": math.nan, "seconds": 0.0}
        values = torch.stack([loss.double(), norm.double()])
        self.pending.append((line, values))
        changes = values.isfinite().all()
        if self.every == 1:
            self._judge(step, *values.tolist())
            return changes
        finite = values[0].isfinite() if self.scaled else changes
        self.finite = finite if self.finite is None else self.finite & finite
        hold_unless(self.finite, self._gradients(optimizer) + self._first_moments(optimizer))
        return self.finite & changes

    def read(self) -> Iterator[dict[str, Any]]:
        """The pending steps' log lines, in order; `seconds` is their mean.

        Raises what `diverged` returns in place of the first line that is not finite.
        """
        if not self.pending:
            return
        rows = torch.stack([values for _, values in self.pending]).tolist()  # the one synchronisation
        seconds = (time.perf_counter() - self.started) / len(rows)
        lines = [line for line, _ in self.pending]
        self.pending.clear()
        for line, (loss, norm) in zip(lines, rows, strict=True):
            if self.every > 1:
                self._judge(line["step"] - 1, loss, norm)
            yield line | {"loss": loss, "gradient_norm": norm, "seconds": round(seconds, 5)}

    def _judge(self, step: int, loss: float, norm: float) -> None:
        self.skipped = 0 if math.isfinite(norm) else self.skipped + 1
        allowed = MOST_SKIPPED if self.scaled else 0
        if not math.isfinite(loss) or self.skipped > allowed:
            raise self.diverged(step)

    def _gradients(self, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]

    def _first_moments(self, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        """AdamW's; they exist from the first step on and stay where they are."""
        if not self.moments:
            self.moments = [state["exp_avg"] for state in optimizer.state.values() if "exp_avg" in state]
        return self.moments


@torch.no_grad()
def hold_unless(finite: Tensor, tensors: Iterable[Tensor]) -> None:
    """Set all numbers to 0 if `finite`, a bool on the device, is false; without waiting for it, nothing else changes.

    Of gradients and first moments: AdamW's step then leaves the weights as they are, weight decay apart. (8-bit AdamW
    keeps its moments in another form, and the weights go on by their last direction.) They are multiplied by 0 or 1 as
    integers, because NaN * 0 is NaN.
    """
    by_size: dict[int, list[Tensor]] = {}
    for tensor in tensors:
        by_size.setdefault(tensor.element_size(), []).append(tensor)
    for size, group in by_size.items():
        torch._foreach_mul_([tensor.view(INTEGERS[size]) for tensor in group], finite.to(INTEGERS[size]))
