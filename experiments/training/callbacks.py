"""What the training loop offers to others: bench, memory tracking and notebooks follow a training through callbacks."""

from __future__ import annotations

from typing import Any


class Callback:
    """Follows a training. Every method does nothing unless overridden; `trainer` is the loop's `Trainer`."""

    def on_start(self, trainer: Any) -> None:
        """Before the first step, after a checkpoint has been loaded."""

    def on_step(self, trainer: Any, step: int, line: dict[str, Any]) -> None:
        """After optimizer step `step` (from 1), with its line of `steps.jsonl`."""

    def on_validation(self, trainer: Any, step: int, loss: float) -> None:
        """After the validation that follows optimizer step `step`."""

    def on_end(self, trainer: Any) -> None:
        """After the last step, and also where the training is interrupted or fails."""
