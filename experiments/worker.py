"""What a worker process does: jobs, one after the other, with the prepared task kept for the next one."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base import AdapterError
from experiments.config import RunConfig, UsageError
from experiments.record import RunFolder
from tasks.base import TaskError

if TYPE_CHECKING:
    from tasks.base import PreparedTask

ONE_SENTENCE = (UsageError, AdapterError, TaskError)  # errors that the user can mend
OUTPUT = "output.log"  # what a job prints goes to this file of its folder


@dataclass(frozen=True, eq=False)  # a job is itself alone
class Job(ABC):
    """Something to do with one resolved configuration, whose result stays in its folder below `root`."""

    config: RunConfig
    root: Path

    @cached_property
    def folder(self) -> RunFolder:
        return RunFolder.of(self.root, self.config)

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the folder holds the result already."""

    @abstractmethod
    def perform(self, prepared: PreparedTask) -> str | None:
        """Do it, going on from what the folder holds; the reason where it failed."""

    @abstractmethod
    def outcome(self) -> str:
        """What came out, in a few words, of a job that is done."""


@dataclass(frozen=True, eq=False)
class Run(Job):
    """An ordinary run: train, measure, write the record."""

    @property
    def done(self) -> bool:
        record = self.folder.result()
        return record is not None and record["status"] == "finished"

    def perform(self, prepared: PreparedTask) -> str | None:
        from experiments.run import execute

        return execute(self.config, self.folder, prepared)["reason"]

    def outcome(self) -> str:
        record = self.folder.result() or {}
        figure = record["metrics"][record["headline"]]
        base = "" if "base" not in figure else f" (untuned base {figure['base']:.4g})"
        return f"{record['headline']} {figure['value']:.4g}{base}, training {record['seconds']['train']:.0f} s"


class Worker:
    """Performs jobs in this process. The last prepared task is kept: loading and encoding happen once for its runs."""

    def __init__(self) -> None:
        self._prepared: tuple[Any, PreparedTask] | None = None

    def perform(self, job: Job) -> str | None:
        """The reason where the job failed: whatever happens to one job, the next one can be performed."""
        if job.done:
            return None
        RunFolder.create(job.root, job.config)
        with printing_to(job.folder.path / OUTPUT):
            try:
                return job.perform(self._prepare(job.config))
            except Exception as error:
                self._prepared = None  # an adapter may be left half attached
                if isinstance(error, ONE_SENTENCE):
                    return str(error)
                traceback.print_exc()
                return f"{type(error).__name__}: {error} (the traceback is in {job.folder.path / OUTPUT})"

    def _prepare(self, config: RunConfig) -> PreparedTask:
        from experiments.run import device_of

        device = device_of(config)
        if self._prepared is None or self._prepared[0] != (config.task, device):
            self._prepared = None  # its memory is free before the next is loaded
            self._prepared = (config.task, device), config.task.prepare(device)
        return self._prepared[1]


@contextlib.contextmanager
def printing_to(file: Path) -> Iterator[None]:
    """What this process writes to standard output and error, libraries below Python too, is added to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with file.open("ab", buffering=0) as target:
        for number in (1, 2):
            os.dup2(target.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in enumerate(kept, start=1):
            os.dup2(before, number)
            os.close(before)
