"""Launchers: where jobs are performed. A launcher takes jobs and yields what happens; this one uses local processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Protocol

from experiments.sweeping.jobs import Job, Worker

ENDING_SECONDS = 60.0  # that a worker has to save its run when the launcher is interrupted
PROGRESS_BAR_SECONDS = "30"  # between two lines of a progress bar in a log file


@dataclass(frozen=True)
class Started:
    """A job has begun."""

    job: Job


@dataclass(frozen=True)
class Ended:
    """A job is over; `reason` says why it failed, None that it did not."""

    job: Job
    reason: str | None


Events = Generator[Started | Ended, None, None]


class Launcher(Protocol):
    """Performs jobs somewhere."""

    def launch(self, jobs: Sequence[Job]) -> Events:
        """Perform all jobs, whatever fails; closing the iterator ends those that run, which go on another time.

        Jobs that are added to `jobs` while events are taken are performed too.
        """
        ...


@dataclass(frozen=True)
class LocalLauncher:
    """`processes` worker processes on this machine, with an equal share of the cores each."""

    processes: int = 1

    def launch(self, jobs: Sequence[Job]) -> Events:
        taken, busy, idle = 0, [], []
        threads = max(1, usable_cores() // self.processes)
        try:
            while taken < len(jobs) or busy:
                while taken < len(jobs) and len(busy) < self.processes:
                    worker = idle.pop() if idle else WorkerProcess(threads)
                    busy.append(worker)
                    taken += 1
                    yield Started(worker.give(jobs[taken - 1]))
                ready = wait([worker.connection for worker in busy])
                for worker in [worker for worker in busy if worker.connection in ready]:
                    busy.remove(worker)
                    ended = worker.ended()
                    if worker.process.is_alive():
                        idle.append(worker)
                    yield ended
        finally:
            end([*busy, *idle])


def end(workers: Sequence[WorkerProcess]) -> None:
    """Let each worker save the step at hand; at once where the launcher is interrupted again."""
    running = sum(worker.running for worker in workers)
    if running:
        print(f"ending {running} runs: each saves its step first (once more: at once)", file=sys.stderr, flush=True)
    for worker in workers:
        worker.process.terminate()
    try:
        for worker in workers:
            worker.process.join(ENDING_SECONDS)
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()


def usable_cores() -> int:
    """Cores that this process may use (a container or `taskset` may leave fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerProcess:
    """A process with a `Worker`, seen from the launcher."""

    def __init__(self, threads: int):
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, threads))
        self.process.start()
        theirs.close()

    def give(self, job: Job) -> Job:
        self.job, self.running = job, True
        self.connection.send(job)
        return job

    def ended(self) -> Ended:
        """The outcome of the job at hand; a process that died takes its job with it."""
        self.running = False
        try:
            return Ended(self.job, self.connection.recv())
        except EOFError:
            self.process.join()
            return Ended(self.job, f"its process ended {described(self.process.exitcode)}")


def described(exit_code: int | None) -> str:
    """An exit code in words."""
    if exit_code is None or exit_code >= 0:
        return f"with exit status {exit_code}"
    name = signal.Signals(-exit_code).name
    return f"by {name}" + (" (the system ends processes so when memory runs out)" if name == "SIGKILL" else "")


def serve(connection: Connection, threads: int) -> None:
    """The worker process: jobs come in, reasons go out.

    Ctrl-C in a terminal reaches the launcher alone, which ends its workers with SIGTERM; a launcher that died without
    doing so is noticed, too.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {"OMP_NUM_THREADS": str(threads), "TQDM_MININTERVAL": PROGRESS_BAR_SECONDS}
    import torch

    torch.set_num_threads(threads)
    worker = Worker()
    try:
        while True:
            connection.send(worker.perform(connection.recv()))
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        return


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
