"""Runs on Ray, one Ray task per run: on this machine or on a cluster whose nodes share the storage of --runs.

If a node dies, Ray gives its run to another node, where the run resumes from its last checkpoint. A run that has
finished is not repeated, because its folder holds the record.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.errors import UsageError
from experiments.process.device import visible_gpus
from experiments.process.openmp import usable_cores
from experiments.process.start import prepare_process
from experiments.records.run_lock import wait_until_free
from experiments.sweeping.jobs import OUTPUT, Job, Worker
from experiments.sweeping.local_launcher import ENDING_SECONDS, PROGRESS_BAR_SECONDS, Ended, Events, Started
from tasks.errors import first_line

PROJECT = Path(__file__).parents[2]
RETRIES = 3  # times that Ray restarts a run whose process or node died
POLL_SECONDS = 1.0
ORPHAN_SECONDS = 20.0
PASSED_ON = ("ADAPTER_TESTBED_", "HF_")  # prefixes of the environment variables that the nodes receive


@dataclass(frozen=True)
class RayLauncher:
    """`address` None starts Ray on this machine; `gpus` None requests one per run if the cluster has any."""

    address: str | None = None
    cpus: int = 1
    gpus: float | None = None

    def launch(self, jobs: Sequence[Job]) -> Events:
        ray = library()
        started_here = not ray.is_initialized()
        if started_here:
            self._connect(ray)
        for root in {job.root for job in jobs}:
            root.mkdir(parents=True, exist_ok=True)
        task = ray.remote(**self.task_options(ray, jobs))(run_on_node)
        started, pending, waiting = 0, {}, {}
        try:
            while started < len(jobs) or pending:
                for job in jobs[started:]:
                    waiting[job] = output_size(job)
                    pending[task.remote(replace(job, root=job.root.resolve()), self.cpus)] = job
                    started += 1
                ready, _ = ray.wait(list(pending), timeout=POLL_SECONDS)
                for job in [job for job in pending.values() if job in waiting and output_size(job) != waiting[job]]:
                    del waiting[job]
                    yield Started(job)
                for reference in ready:
                    job = pending.pop(reference)
                    if waiting.pop(job, None) is not None:
                        yield Started(job)
                    yield Ended(job, reason_of(ray, reference))
        finally:
            for reference in pending:
                ray.cancel(reference)
            if pending:
                ray.wait(list(pending), num_returns=len(pending), timeout=ENDING_SECONDS)
            if started_here:
                ray.shutdown()

    def shares(self, on_cuda: bool) -> tuple[int, int] | None:
        if self.address is not None:
            return None
        count = usable_cores() // self.cpus
        gpus = float(on_cuda) if self.gpus is None else self.gpus
        if on_cuda and gpus:
            count = min(count, int(len(visible_gpus()) / gpus))
        return max(1, count), self.cpus

    def _connect(self, ray: Any) -> None:
        variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables |= {"PYTHONPATH": os.pathsep.join(paths), "TQDM_MININTERVAL": PROGRESS_BAR_SECONDS}
        try:
            ray.init(self.address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": variables})
        except (ConnectionError, ValueError) as failure:
            raise UsageError(
                f"--ray-address '{self.address}' is not a cluster ({first_line(failure)}): start one with "
                "`ray start --head`, or omit the option"
            ) from None

    def task_options(self, ray: Any, jobs: Sequence[Job]) -> dict[str, Any]:
        """The options of `ray.remote` for a run.

        A run with a GPU gets a process of its own (`max_calls`): CUDA reads CUDA_VISIBLE_DEVICES, which Ray sets for
        each run, once in a process. `max_calls` is no option of `.options()`.
        """
        resources = self._resources(ray, jobs)
        return {"max_retries": RETRIES, "max_calls": 1 if resources["num_gpus"] else 0, **resources}

    def _resources(self, ray: Any, jobs: Sequence[Job]) -> dict[str, float]:
        """The resources of a run. Raises UsageError if no node has them, because Ray would wait forever."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        devices = {job.config.train.device for job in jobs}
        gpus = self.gpus
        if gpus is None:
            gpus = float(devices != {"cpu"} and ("cuda" in devices or any(node.get("GPU") for node in nodes)))
        if not any(node.get("CPU", 0) >= self.cpus and node.get("GPU", 0) >= gpus for node in nodes):
            raise UsageError(
                f"no node of the cluster has {self.cpus} cores and {gpus:g} GPUs for a run: "
                "set --run-cpus and --run-gpus, or add a node"
            )
        return {"num_cpus": self.cpus, "num_gpus": gpus}


def library() -> Any:
    """The ray module. Raises UsageError if it is not installed."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UsageError('--launcher ray needs Ray: pip install -e ".[ray]"') from None
    return ray


_worker = Worker()  # Ray reuses the processes of runs without a GPU, which share the prepared task


def run_on_node(job: Job, threads: int) -> str | None:
    """Perform a job on a node of the cluster; returns the reason if it failed."""
    prepare_process()
    import torch

    if not job.root.is_dir():
        return f"{os.uname().nodename} has no {job.root}: --runs must be on storage that all nodes share"
    torch.set_num_threads(threads)
    # processes of a dead node can outlive it for a moment, when Ray has already given their runs to other nodes
    wait_until_free(job.folder.path, ORPHAN_SECONDS)
    return _worker.run(job)


def reason_of(ray: Any, reference: Any) -> str | None:
    """What `run_on_node` returned; if Ray gave up on the run, the reason for that."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as failure:
        return f"Ray gave up on it: {(str(failure).splitlines() or [type(failure).__name__])[0]}"


def output_size(job: Job) -> int:
    """Bytes that the job has printed so far; they grow when it starts, also on another machine."""
    file = job.folder.path / OUTPUT
    return file.stat().st_size if file.exists() else 0
