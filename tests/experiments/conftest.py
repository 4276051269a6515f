"""The tiny task, registered for one test; and a launcher that remembers its jobs."""

import pytest

from experiments.sweeping.local_launcher import InProcessLauncher, Started
from tasks import base


@pytest.fixture
def tiny_task(monkeypatch):
    from tests.experiments.tiny_task import Tiny

    base.task_registry.cache_clear()
    monkeypatch.setitem(base.Task._registry, "tiny", Tiny)
    yield Tiny
    base.task_registry.cache_clear()


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
