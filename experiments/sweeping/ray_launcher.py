"""Runs on Ray: on one machine or a cluster whose nodes share the storage of --runs, one task of Ray a run.

A run whose node dies is given to another node by Ray; it goes on from its last checkpoint, and one that had finished
is not done again, because its folder says so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.errors import UsageError
from experiments.records.run_lock import wait_until_free
from experiments.sweeping.jobs import OUTPUT, Job, Worker
from experiments.sweeping.local_launcher import ENDING_SECONDS, PROGRESS_BAR_SECONDS, Ended, Events, Started

PROJECT = Path(__file__).parents[2]
RETRIES = 3  # times that Ray gives a run to another process when its process or node died
POLL_SECONDS = 1.0
ORPHAN_SECONDS = 20.0
PASSED_ON = ("ADAPTER_TESTBED_", "HF_")  # environment variables that the nodes get, by how they begin


@dataclass(frozen=True)
class RayLauncher:
    """`address` None starts Ray on this machine; `gpus` None asks for one where the cluster has any."""

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
        task = ray.remote(perform).options(max_retries=RETRIES, **self._resources(ray, jobs))
        taken, left, begun = 0, {}, {}
        try:
            while taken < len(jobs) or left:
                for job in jobs[taken:]:
                    begun[job] = output_size(job)
                    left[task.remote(replace(job, root=job.root.resolve()), self.cpus)] = job
                    taken += 1
                ready, _ = ray.wait(list(left), timeout=POLL_SECONDS)
                for job in [job for job in left.values() if job in begun and output_size(job) != begun[job]]:
                    del begun[job]
                    yield Started(job)
                for reference in ready:
                    job = left.pop(reference)
                    if begun.pop(job, None) is not None:
                        yield Started(job)
                    yield Ended(job, reason_of(ray, reference))
        finally:
            for reference in left:
                ray.cancel(reference)
            if left:
                ray.wait(list(left), num_returns=len(left), timeout=ENDING_SECONDS)
            if started_here:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        places = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables |= {"PYTHONPATH": os.pathsep.join(places), "TQDM_MININTERVAL": PROGRESS_BAR_SECONDS}
        try:
            ray.init(self.address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": variables})
        except (ConnectionError, ValueError) as failure:
            raise UsageError(
                f"--ray-address '{self.address}' gives no cluster ({str(failure).splitlines()[0]}): start one with "
                "`ray start --head`, or leave the option out"
            ) from None

    def _resources(self, ray: Any, jobs: Sequence[Job]) -> dict[str, float]:
        """What a run asks for. Raises UsageError where no node has it: Ray would wait for ever."""
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
    """Ray. Raises UsageError where it is not installed."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UsageError('--launcher ray needs Ray: pip install -e ".[ray]"') from None
    return ray


_worker = Worker()  # Ray keeps a worker process for the next run, and so does this the prepared task


def perform(job: Job, threads: int) -> str | None:
    """On a node of the cluster: the reason where the job failed."""
    import torch

    if not job.root.is_dir():
        return f"{os.uname().nodename} has no {job.root}: --runs must be on storage that all nodes share"
    torch.set_num_threads(threads)
    # a node that died leaves its processes alive for a moment, when Ray has given their runs to others already
    wait_until_free(job.folder.path, ORPHAN_SECONDS)
    return _worker.perform(job)


def reason_of(ray: Any, reference: Any) -> str | None:
    """What `perform` gave; where Ray gave the run up, why."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as failure:
        return f"Ray gave it up: {(str(failure).splitlines() or [type(failure).__name__])[0]}"


def output_size(job: Job) -> int:
    """Bytes that the job has printed, in this sweep and before: they grow as it begins."""
    file = job.folder.path / OUTPUT
    return file.stat().st_size if file.exists() else 0
