"""Launchers perform jobs and yield events: in this process, or in worker processes on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Protocol

from experiments.config import uses_cuda
from experiments.process.device import visible_gpus
from experiments.process.openmp import threads, usable_cores
from experiments.process.start import prepare_process
from experiments.sweeping.jobs import Job, Worker

ENDING_SECONDS = 60.0  # for a worker to save its run when the launcher is interrupted
PROGRESS_BAR_SECONDS = "30"  # between two updates of a progress bar in a log file


@dataclass(frozen=True)
class Started:
    """A job has started."""

    job: Job


@dataclass(frozen=True)
class Ended:
    """A job has ended; `reason` is why it failed, None if it succeeded."""

    job: Job
    reason: str | None


Events = Generator[Started | Ended, None, None]


class Launcher(Protocol):
    """Performs jobs."""

    def launch(self, jobs: Sequence[Job]) -> Events:
        """Perform all jobs; a failure does not stop the others. Closing the iterator interrupts running jobs, which
        can be resumed later. Jobs appended to `jobs` while events are consumed are performed too.
        """
        ...

    def shares(self, on_cuda: bool) -> tuple[int, int] | None:
        """The number of runs at a time on this machine, and the CPU threads of each; None for other machines."""
        ...


class InProcessLauncher:
    """Performs one job after the other in this process."""

    def launch(self, jobs: Sequence[Job]) -> Events:
        worker, count = Worker(whole_process=False), 0
        while count < len(jobs):  # `jobs` may grow
            job = jobs[count]
            count += 1
            yield Started(job)
            yield Ended(job, worker.run(job))

    def shares(self, on_cuda: bool) -> tuple[int, int]:
        return 1, threads()


@dataclass(frozen=True)
class LocalLauncher:
    """Worker processes on this machine, each with an equal share of the cores and, for runs on CUDA, with one GPU.

    `processes` None is one per GPU that the runs may use, and one without GPUs. More processes than GPUs share them.
    """

    processes: int | None = None

    def launch(self, jobs: Sequence[Job]) -> Events:
        started, busy, idle = 0, [], []
        places = self.places(jobs)
        try:
            while started < len(jobs) or busy:
                while started < len(jobs) and (idle or places):
                    worker = idle.pop() if idle else WorkerProcess(places.pop(0))
                    busy.append(worker)
                    started += 1
                    yield Started(worker.start(jobs[started - 1]))
                ready = wait([worker.connection for worker in busy])
                for worker in [worker for worker in busy if worker.connection in ready]:
                    busy.remove(worker)
                    ended = worker.ended()
                    if worker.process.is_alive():
                        idle.append(worker)
                    else:
                        places.append(worker.place)
                    yield ended
        finally:
            end([*busy, *idle])

    def shares(self, on_cuda: bool) -> tuple[int, int]:
        count = self.processes or max(1, len(visible_gpus()) if on_cuda else 1)
        return count, max(1, usable_cores() // count)

    def places(self, jobs: Sequence[Job]) -> list[Place]:
        """Where each worker process computes. Jobs that are added later use the same devices."""
        on_cuda = any(uses_cuda(job.config.train) for job in jobs)
        gpus = visible_gpus() if on_cuda else []
        count, threads_each = self.shares(on_cuda)
        return [Place(threads_each, count, gpus[number % len(gpus)] if gpus else None) for number in range(count)]


@dataclass(frozen=True)
class Place:
    """A worker's share of this machine: its threads, beside how many workers in all, and its GPU if it has one."""

    threads: int
    workers: int = 1
    gpu: str | None = None

    def environment(self) -> dict[str, str]:
        """The variables that a worker starts with; libraries read them when they are loaded."""
        gpu = {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}
        return {"OMP_NUM_THREADS": str(self.threads), "TQDM_MININTERVAL": PROGRESS_BAR_SECONDS, **gpu}


def end(workers: Sequence[WorkerProcess]) -> None:
    """Let each worker save its current step; a second interrupt ends them at once."""
    running = sum(worker.running for worker in workers)
    if running:
        print(
            f"stopping {running} runs: each saves its current step first (interrupt again to stop at once)",
            file=sys.stderr,
            flush=True,
        )
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


class WorkerProcess:
    """The launcher's handle on a process with a `Worker`."""

    def __init__(self, place: Place):
        context = get_context("spawn")
        self.place = place
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, place))
        with _environment(place.environment()):  # inherited, since a user's script may import torch before `serve`
            self.process.start()
        theirs.close()

    def start(self, job: Job) -> Job:
        self.job, self.running = job, True
        self.connection.send(job)
        return job

    def ended(self) -> Ended:
        """The outcome of the current job; if the process has died, the job has failed."""
        self.running = False
        try:
            return Ended(self.job, self.connection.recv())
        except EOFError:
            self.process.join()
            return Ended(self.job, f"its process ended {exit_in_words(self.process.exitcode)}")


def exit_in_words(exit_code: int | None) -> str:
    """An exit code in words."""
    if exit_code is None or exit_code >= 0:
        return f"with exit status {exit_code}"
    name = signal.Signals(-exit_code).name
    return f"by {name}" + (" (the system kills processes this way when memory runs out)" if name == "SIGKILL" else "")


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def serve(connection: Connection, place: Place) -> None:
    """The worker process: receives jobs and sends the reasons of failures.

    It has its own process group, so that Ctrl-C in a terminal reaches the launcher alone, which ends its workers with
    SIGTERM. If the launcher dies without doing so, the worker ends too.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare_process(beside=place.workers - 1)
    import torch

    torch.set_num_threads(place.threads)
    worker = Worker()
    try:
        while True:
            connection.send(worker.run(connection.recv()))
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        return


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
