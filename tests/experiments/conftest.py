"""The tiny task, registered for one test; and a launcher that remembers its jobs."""

import pytest

from experiments.sweeping.local_launcher import InProcessLauncher, Started
from tasks import base


@pytest.fixture
def tiny_task(monkeypatch):
    from tests.experiments.tiny_task import Tiny

    monkeypatch.setitem(base.Task._registry, "tiny", Tiny)
    return Tiny


class RecordingLauncher(InProcessLauncher):
    """Performs jobs in the test's process and lists them in `performed`."""

    def __init__(self):
        self.performed = []

    def launch(self, jobs):
        for event in super().launch(jobs):
            if isinstance(event, Started):
                self.performed.append(event.job)
            yield event


@pytest.fixture
def launcher() -> RecordingLauncher:
    return RecordingLauncher()
