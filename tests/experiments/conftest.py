"""The tiny task, registered for one test; and a launcher that needs no other process."""

import pytest

from experiments.sweeping.jobs import Worker
from experiments.sweeping.local_launcher import Ended, Started
from tasks import base


@pytest.fixture
def tiny_task(monkeypatch):
    from tests.experiments.tiny_task import Tiny

    base.registry.cache_clear()
    monkeypatch.setitem(base.Task._registry, "tiny", Tiny)
    yield Tiny
    base.registry.cache_clear()


class HereLauncher:
    """Performs jobs in the test's own process."""

    def __init__(self):
        self.performed = []

    def launch(self, jobs):
        worker = Worker()
        for job in jobs:
            yield Started(job)
            self.performed.append(job)
            yield Ended(job, worker.perform(job))


@pytest.fixture
def here() -> HereLauncher:
    return HereLauncher()
