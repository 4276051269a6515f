"""What a worker process does: jobs, one after the other, with the prepared task kept for the next one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base import Adapter
from adapters.errors import AdapterError
from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.records.failures import RunFailure
from experiments.records.folder import RunFolder, write_json
from tasks.errors import TaskError

if TYPE_CHECKING:
    from tasks.base import PreparedTask

ONE_SENTENCE = (UsageError, AdapterError, TaskError, RunFailure)  # errors that the user can mend
OUTPUT = "output.log"  # what a job prints goes to this file of its folder
LAST_LINES = 4096  # bytes of a step log that hold its last line


@dataclass(frozen=True, eq=False)  # a job is itself alone
class Job(ABC):
    """Something to do with one resolved configuration, whose result stays in its folder below `root`."""

    config: RunConfig
    root: Path

    @cached_property
    def folder(self) -> RunFolder:
        return RunFolder.of(self.root, self.config)

    @property
    def what(self) -> str:
        """The method with its size and what else is not at its default."""
        return arm(self.config.adapter)

    @property
    def label(self) -> str:
        return f"{self.config.task.name} {self.what} seed {self.config.train.seed}"

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the folder holds the result already."""

    @abstractmethod
    def state(self) -> str:
        """How far the job is, in words."""

    @abstractmethod
    def outcome(self) -> str:
        """What came out, in words, of a job that is done."""

    @abstractmethod
    def perform(self, prepared: PreparedTask) -> str | None:
        """Do it, going on from what the folder holds; the reason where it failed."""

    def last_step(self) -> int:
        """The step that the job's log has come to; 0 where there is none."""
        with contextlib.suppress(OSError), (self.folder.path / "steps.jsonl").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_LINES))
            for line in reversed(log.read().splitlines()):
                with contextlib.suppress(ValueError, KeyError, TypeError):  # the last line may be half written
                    return int(json.loads(line)["step"])
        return 0

    def progress(self) -> str:
        step = self.last_step()
        return f"step {step} of {self.config.train.steps}" if step else "to do"


@dataclass(frozen=True, eq=False)
class RunJob(Job):
    """An ordinary run: train, measure, write the record. `search` is how its learning rate was chosen."""

    search: Mapping[str, Any] | None = None

    @property
    def done(self) -> bool:
        record = self.folder.result()
        return record is not None and record["status"] == "finished"

    def state(self) -> str:
        record = self.folder.result()
        if record is None:
            return self.progress()
        return "finished" if record["status"] == "finished" else f"failed: {record['reason']}"

    def outcome(self) -> str:
        record = self.folder.result() or {}
        figure = record["metrics"].get(record["primary_metric"])
        shown = "not evaluated" if figure is None else f"{record['primary_metric']} {figure['value']:.4g}"
        base = f" (untuned base {figure['base']:.4g})" if figure is not None and "base" in figure else ""
        return f"{shown}{base}, training {record['seconds']['train']:.0f} s"

    def perform(self, prepared: PreparedTask) -> str | None:
        from experiments.session import execute

        reason = execute(self.config, self.folder, prepared)["reason"]
        self.keep_search()
        return reason

    def keep_search(self) -> None:
        """Write the search into the record, where there is a record without it."""
        record = self.folder.result()
        if self.search is not None and record is not None and record.get("search") != self.search:
            write_json(self.folder.result_file, record | {"search": self.search})


def arm(adapter: Adapter) -> str:
    """A method with its size and what else is not at its default: "lora rank 4, targets query value"."""
    default = type(adapter)()
    names = [f.name for f in fields(adapter)]
    told = [name for name in names if name == adapter.size_field or getattr(adapter, name) != getattr(default, name)]
    settings = [f"{name} {shown}" for name in told if (shown := _shown(getattr(adapter, name))) is not None]
    return ", ".join([" ".join([adapter.name, *settings[:1]]), *settings[1:]])


def _shown(value: Any) -> str | None:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return None if value is None else f"{value:g}" if isinstance(value, float) else str(value)


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
            print(f"{datetime.now().astimezone():%F %T%z} on {socket.gethostname()}, process {os.getpid()}", flush=True)
            try:
                return job.perform(self._prepare(job.config))
            except Exception as error:
                self._prepared = None  # an adapter may be left half attached
                if isinstance(error, ONE_SENTENCE):
                    return str(error)
                traceback.print_exc()
                return f"{type(error).__name__}: {error} (the traceback is in {job.folder.path / OUTPUT})"

    def _prepare(self, config: RunConfig) -> PreparedTask:
        from experiments.session import device_of

        device = device_of(config)
        if self._prepared is None or self._prepared[0] != (config.task, device):
            self._prepared = None  # its memory is free before the next is loaded
            self._prepared = (config.task, device), config.task.prepare(device)
        return self._prepared[1]


@contextlib.contextmanager
def printing_to(file: Path) -> Iterator[None]:
    """What this process writes to standard output and error, libraries below Python too, is added to a file."""
    with file.open("a", buffering=1) as target:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        kept = [(number, os.dup(number)) for number in (1, 2)]
        try:
            for number in (1, 2):
                os.dup2(target.fileno(), number)
            with contextlib.redirect_stdout(target), contextlib.redirect_stderr(target):
                yield
        finally:
            for number, before in kept:
                os.dup2(before, number)
                os.close(before)
