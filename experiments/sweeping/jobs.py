"""Jobs of a sweep, and the worker that performs them one after the other and shares the prepared task between them."""

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
from typing import TYPE_CHECKING, Any, TextIO

from adapters.base import Adapter
from adapters.errors import AdapterError
from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.process.device import device_of
from experiments.records.failures import RunFailure
from experiments.records.folder import RunFolder, write_json
from experiments.records.run_record import RunRecord
from experiments.sweeping.grid import values_of
from tasks.errors import TaskError

if TYPE_CHECKING:
    from tasks.base import PreparedTask

USER_ERRORS = (UsageError, AdapterError, TaskError, RunFailure)
OUTPUT = "output.log"  # in the job's folder: what the job prints
LARGEST_JOBS = 10_000  # at a time
LAST_LINES = 4096  # bytes at the end of a step log that are sure to hold a whole line


@dataclass(frozen=True, eq=False)  # compared by identity
class Job(ABC):
    """Work on one resolved configuration; the result is written to its folder below `root`."""

    config: RunConfig
    root: Path
    varied: tuple[str, ...] = ()  # the settings that the sweep varies, as in `Axis`

    @cached_property
    def folder(self) -> RunFolder:
        return RunFolder.of(self.root, self.config)

    @property
    def description(self) -> str:
        """The method with its size, its other settings that differ from their defaults, and what the sweep varies."""
        others = [setting for setting in self.varied if setting.startswith(("train.", "task."))]
        values = values_of(self.config, others).items()
        words = [f"{setting.partition('.')[2].replace('_', ' ')} {in_words(value)}" for setting, value in values]
        return ", ".join([describe_adapter(self.config.adapter), *words])

    @property
    def label(self) -> str:
        return f"{self.config.task.name} {self.description} seed {self.config.train.seed}"

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the folder holds the result."""

    @abstractmethod
    def state(self) -> str:
        """The job's progress, in words."""

    @abstractmethod
    def outcome(self) -> str:
        """The result of a finished job, in words."""

    @abstractmethod
    def perform(self, prepared: PreparedTask) -> str | None:
        """Do the work, resuming from the folder's contents; returns the reason if it failed."""

    def last_step(self) -> int:
        """The last step in the job's log; 0 without a log."""
        with contextlib.suppress(OSError), (self.folder.path / "steps.jsonl").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_LINES))
            for line in reversed(log.read().splitlines()):
                with contextlib.suppress(ValueError, KeyError, TypeError):  # the last line may be incomplete
                    return int(json.loads(line)["step"])
        return 0

    def progress(self) -> str:
        step = self.last_step()
        return f"step {step} of {self.config.train.steps}" if step else "to do"


@dataclass(frozen=True, eq=False)
class RunJob(Job):
    """Train, measure and write the record. `search` is the record of how the learning rate was chosen."""

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
        record = RunRecord(self.folder.path, self.folder.result() or {})
        name = record.data["primary_metric"]
        figure = record.figure(name)
        base = "" if figure.base is None else f"untuned base {figure.base:.4g}, "
        measured = f"{name} {figure.value:.4g} {figure.unit} ({base}n={figure.n}, {figure.extractor})"
        return f"{measured}, training {record.data['seconds']['train']:.0f} s"

    def perform(self, prepared: PreparedTask) -> str | None:
        from experiments.session import execute

        reason = execute(self.config, self.folder, prepared)["reason"]
        self.write_search()
        return reason

    def write_search(self) -> None:
        """Add the search to a record that lacks it."""
        record = self.folder.result()
        if self.search is not None and record is not None and record.get("search") != self.search:
            training = record.get("training", {}) | {"learning_rate_source": "search"}
            write_json(self.folder.result_file, record | {"training": training, "search": self.search})


def describe_adapter(adapter: Adapter) -> str:
    """A method with its size and its other settings that differ from their defaults, such as "lora rank 4, alpha 8"."""
    default = type(adapter)()
    changed = [
        f.name
        for f in fields(adapter)
        if f.name == adapter.size_field or getattr(adapter, f.name) != getattr(default, f.name)
    ]
    values = {name: in_words(getattr(adapter, name)) for name in changed}
    settings = [f"{name} {value}" for name, value in values.items() if value is not None]
    return ", ".join([" ".join([adapter.name, *settings[:1]]), *settings[1:]])


def in_words(value: Any) -> str | None:
    """A setting's value as a table or a progress line shows it; None if it is not set."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return None if value is None else f"{value:g}" if isinstance(value, float) else str(value)


class Worker:
    """Performs jobs in this process. The last prepared task is shared: its runs load and encode the data once.

    What a job prints goes to its `output.log`: all that the process prints, below Python too, or with
    `whole_process=False` only what Python code prints, so that the caller's own display stays visible.
    """

    def __init__(self, whole_process: bool = True) -> None:
        self._redirect = _redirect_process if whole_process else _redirect_python
        self._prepared: tuple[Any, PreparedTask] | None = None

    def run(self, job: Job) -> str | None:
        """Perform a job unless it is done; returns the reason if it failed, and is then ready for the next job.

        A job that cannot work leaves no folder behind.
        """
        from experiments.training.preflight import check_before_loading

        if job.done:
            return None
        try:
            check_before_loading(job.config)
            job.folder.make()
        except USER_ERRORS as error:
            return str(error)
        return self._perform(job)

    def _perform(self, job: Job) -> str | None:
        output = job.folder.path / OUTPUT
        with output.open("a", buffering=1) as target, self._redirect(target):
            print(f"{datetime.now().astimezone():%F %T%z} on {socket.gethostname()}, process {os.getpid()}", flush=True)
            try:
                return job.perform(self._prepare(job.config))
            except Exception as error:
                self._prepared = None  # an adapter may still be attached to it
                if isinstance(error, USER_ERRORS):
                    return str(error)
                traceback.print_exc()
                return f"{type(error).__name__}: {error} (traceback: {output})"

    def _prepare(self, config: RunConfig) -> PreparedTask:
        device = device_of(config)
        key = (config.task, config.content["task"], device)
        if self._prepared is None or self._prepared[0] != key:
            self._prepared = None  # frees its memory before the next one is loaded
            self._prepared = key, config.task.prepare(device)
        return self._prepared[1]


@contextlib.contextmanager
def _redirect_python(target: TextIO) -> Iterator[None]:
    with contextlib.redirect_stdout(target), contextlib.redirect_stderr(target):
        yield


@contextlib.contextmanager
def _redirect_process(target: TextIO) -> Iterator[None]:
    """Redirect standard output and error at the level of file descriptors, which libraries in C use too."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    saved = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
    try:
        for descriptor in (1, 2):
            os.dup2(target.fileno(), descriptor)
        with _redirect_python(target):
            yield
    finally:
        for descriptor, copy in saved:
            os.dup2(copy, descriptor)
            os.close(copy)
