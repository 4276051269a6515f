"""One progress display for all jobs of a sweep, and a line for each job that ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from experiments.sweeping.jobs import Job
from experiments.sweeping.local_launcher import Ended, Launcher, Started


class Display(Progress):
    """A bar for all jobs and one for each running job, whose progress is read from its step log, wherever it runs."""

    def __init__(self, title: str, count: int):
        self.running: dict[Job, TaskID] = {}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        # the stream itself: while a job runs in this process, `sys.stderr` is the job's log
        console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        super().__init__(*columns, console=console, refresh_per_second=1)
        self.overall = self.add_task(title, total=count)

    def get_renderables(self) -> Iterable[RenderableType]:
        for job, bar in list(self.running.items()):
            self.update(bar, completed=job.last_step())
        return super().get_renderables()

    def show(self, event: Started | Ended) -> None:
        job = event.job
        if isinstance(event, Started):
            self.running[job] = self.add_task(f"  {job.label}", total=job.config.train.steps)
            return
        self.remove_task(self.running.pop(job))
        self.advance(self.overall)
        outcome = escape(job.outcome()) if event.reason is None else f"[red]failed[/]: {escape(event.reason)}"
        self.console.print(f"{escape(job.label)}: {outcome}")


def run_jobs(
    jobs: Iterable[Job], launcher: Launcher, title: str, then: Callable[[Ended], Iterable[Job]] = lambda ended: ()
) -> dict[Job, str]:
    """Perform the jobs, and those that `then` gives when one ends, in one display.

    Returns the jobs that failed, with their reasons.
    """
    failures, jobs = {}, list(jobs)
    if not jobs:
        return failures
    with Display(title, len(jobs)) as display, closing(launcher.launch(jobs)) as events:
        for event in events:
            display.show(event)
            if isinstance(event, Ended):
                if event.reason is not None:
                    failures[event.job] = event.reason
                jobs += then(event)
                display.update(display.overall, total=len(jobs))
    return failures


def show_plan(jobs: Sequence[Job]) -> None:
    """Print one row per job with its progress."""
    table = Table("task", "method", "seed", "state", Column("record", overflow="fold"))
    for job in jobs:
        config = job.config
        table.add_row(config.task.name, job.description, str(config.train.seed), job.state(), str(job.folder.path))
    Console(highlight=False, markup=False).print(table)
