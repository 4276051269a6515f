"""Callbacks of the training loop, for benchmarks, memory tracking, progress plots in a notebook, and tests."""

from __future__ import annotations

from typing import Any


class Callback:
    """Follows a training. Every method does nothing unless overridden; `trainer` is the loop's `Trainer`.

        class PrintLoss(Callback):
            def on_step(self, trainer, step, line):
                print(step, line["loss"])

        run(Lora(), Pokemon(), callbacks=[PrintLoss()])

    An exception ends the training. With several processes, callbacks are called in each of them.
    """

    def on_start(self, trainer: Any) -> None:
        """Called before the first step, after a checkpoint has been loaded."""

    def on_step(self, trainer: Any, step: int, line: dict[str, Any]) -> None:
        """Called with the line in `steps.jsonl` of optimizer step `step` (from 1), in the order of steps.

        On a CPU that is right after the step; on a GPU up to `--train.log-every` - 1 steps later.
        """

    def on_validation(self, trainer: Any, step: int, loss: float) -> None:
        """Called after the validation that follows optimizer step `step`, before its `on_step`."""

    def on_end(self, trainer: Any) -> None:
        """Called after the last step, and also if the training is interrupted or fails."""
