"""Ctrl-C and SIGTERM (pre-emption): the current step is finished and saved, and the message says how to resume."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal ended the run. `status` is the exit status that shells expect: 130 for SIGINT, 143 for SIGTERM."""

    def __init__(self, number: int, state: str = "the same command resumes from the last checkpoint, if there is one"):
        self.status = 128 + number
        super().__init__(f"stopped by {signal.Signals(number).name}: {state}")


class Interruption:
    """A context in which the signals raise `Interrupted`; inside `deferred()` the first one only sets `signal`.

    Python handles signals in the main thread only; in other threads this context does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._deferring = False
        self._previous = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A context that the first signal does not interrupt; its body checks `signal` and stops at a safe point."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def _on_signal(self, number: int, _frame: object) -> None:
        first, self.signal = self.signal is None, number
        if not (first and self._deferring):
            raise Interrupted(number)
        # os.write, because print() must not be called from a signal handler
        os.write(2, b"\nstopping: the current step is finished and saved first (interrupt again to stop at once)\n")
