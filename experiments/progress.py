"""One display for all runs of a sweep, and a line as each one ends."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from adapters.base import Adapter
from experiments.config import RunConfig
from experiments.launch import Ended, Started
from experiments.worker import Job, Run

TAIL = 4096  # bytes of steps.jsonl that hold its last line


class Display(Progress):
    """A bar for all jobs and one for each that runs; a run's own step log says how far it is, wherever it runs."""

    def __init__(self, what: str, count: int):
        self.running: dict[Job, TaskID] = {}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        super().__init__(*columns, console=Console(stderr=True, highlight=False, soft_wrap=True), refresh_per_second=1)
        self.whole = self.add_task(what, total=count)

    def get_renderables(self) -> Iterable[RenderableType]:
        for job, bar in list(self.running.items()):
            self.update(bar, completed=last_step(job.folder.path))
        return super().get_renderables()

    def show(self, event: Started | Ended) -> None:
        job = event.job
        if isinstance(event, Started):
            self.running[job] = self.add_task(f"  {label(job.config)}", total=job.config.train.steps)
            return
        self.remove_task(self.running.pop(job))
        self.advance(self.whole)
        failed = event.reason is not None
        self.console.print(
            f"{'[red]failed[/] ' if failed else ''}{label(job.config)}: {event.reason if failed else job.outcome()}"
        )


def label(config: RunConfig) -> str:
    """A configuration in a few words: "sd-pokemon lora rank 4 seed 0"."""
    return f"{config.task.name} {arm(config.adapter)} seed {config.train.seed}"


def arm(adapter: Adapter) -> str:
    """A method with its size and what else is not at its default."""
    default = type(adapter)()
    names = [f.name for f in fields(adapter)]
    told = [name for name in names if name == adapter.size_field or getattr(adapter, name) != getattr(default, name)]
    settings = [f"{name} {shown}" for name in told if (shown := _shown(getattr(adapter, name))) is not None]
    return ", ".join([" ".join([adapter.name, *settings[:1]]), *settings[1:]])


def _shown(value: Any) -> str | None:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return None if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def last_step(folder: Path) -> int:
    """The step that the run's log has come to; 0 where there is none."""
    with suppress(OSError), (folder / "steps.jsonl").open("rb") as log:
        log.seek(max(0, log.seek(0, 2) - TAIL))
        for line in reversed(log.read().splitlines()):
            with suppress(ValueError, KeyError, TypeError):  # the last line may be half written
                return int(json.loads(line)["step"])
    return 0


def show_plan(runs: Sequence[Run]) -> None:
    """What would run, and how much of it is there: a row a run, and the counts."""
    table = Table("task", "method", "seed", "state", Column("record", overflow="fold"))
    states = [state(run) for run in runs]
    for run, found in zip(runs, states, strict=True):
        config = run.config
        table.add_row(config.task.name, arm(config.adapter), str(config.train.seed), found, str(run.folder.path))
    finished, failed = states.count("finished"), sum(found.startswith("failed") for found in states)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"{len(runs)} runs: {finished} finished, {failed} failed, {len(runs) - finished - failed} to do")


def state(run: Run) -> str:
    """How far a run is, in words."""
    record = run.folder.result()
    if record is not None:
        return "finished" if run.done else f"failed: {record['reason']}"
    step = last_step(run.folder.path)
    return f"step {step} of {run.config.train.steps}" if step else "to do"
