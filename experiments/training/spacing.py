"""How often large checkpoints are saved: full fine-tuning of a large model would spend its time on them."""

from __future__ import annotations

import time
from collections.abc import Callable

LARGE = 10**9  # bytes; what is smaller takes no time that counts
SHARE_OF_TIME = 0.03  # of the training, at most, for saving large checkpoints


class CheckpointSpacing:
    """Says when a checkpoint is worth its time, from the size of the last one and how long it took."""

    def __init__(self) -> None:
        self.earliest = 0.0

    def is_due(self) -> bool:
        return time.perf_counter() >= self.earliest

    def timed(self, save: Callable[[], int]) -> None:
        """Call `save`, which returns the checkpoint's bytes."""
        started = time.perf_counter()
        size, ended = save(), time.perf_counter()
        if size >= LARGE:
            self.earliest = ended + (ended - started) / SHARE_OF_TIME
