"""Ctrl-C and SIGTERM (pre-emption): the step at hand ends, a checkpoint is written, and the user hears how to go on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal ended the run. `status` is the exit status that shells know for it: 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, number: int, state: str = "the same command goes on from the last checkpoint, if there is one"):
        self.status = 128 + number
        super().__init__(f"stopped by {signal.Signals(number).name}: {state}")


class Interruption:
    """While entered, the signals raise `Interrupted`; in `deferred()` the first one only sets `asked`.

    Python lets the main thread alone handle signals; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._deferring = False
        self._before = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A context that a first signal does not leave; who enters it looks at `asked` and ends in good order."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def _on_signal(self, number: int, _frame: object) -> None:
        first, self.asked = self.asked is None, number
        if not (first and self._deferring):
            raise Interrupted(number)
        # print() may not be entered again from a handler
        os.write(2, b"\nstopping: this step is finished and saved first (once more: stop at once)\n")
