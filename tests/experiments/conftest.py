"""The tiny task, registered for one test; a launcher that remembers its jobs, and the command `sweep` with it."""

import sys

import pytest

from experiments.sweep import main
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


@pytest.fixture
def swept(monkeypatch, tmp_path, tiny_task, launcher):
    """Run the command in this process; returns its exit status and the jobs that it performed."""

    def run(*words: str):
        launcher.performed.clear()
        monkeypatch.setattr(sys, "argv", ["sweep", *words, "--runs", str(tmp_path / "runs")])
        monkeypatch.setitem(main.__globals__, "launcher_of", lambda options: launcher)
        try:
            main()
        except SystemExit as stopped:
            return stopped.code, list(launcher.performed)
        return 0, list(launcher.performed)

    return run
