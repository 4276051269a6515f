"""What a sweep does: search the learning rates, perform the runs that are missing, collect what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from adapters.base import Adapter
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.records.run_record import RunRecord
from experiments.sweeping.grid import axis_of, crossed, names_of, resolved, varied
from experiments.sweeping.jobs import LARGEST_JOBS, Job, RunJob, describe_adapter
from experiments.sweeping.learning_rates import LearningRateSearch, SeedGroup, seed_groups
from experiments.sweeping.local_launcher import Ended, InProcessLauncher, Launcher, LocalLauncher
from experiments.training.settings import with_settings
from tasks.base import Task


def sweep(
    adapters: Adapter | Sequence[Adapter],
    tasks: Task | Sequence[Task],
    seeds: int | Sequence[int] = (0,),
    train: Train | None = None,
    *,
    runs: str | Path = "runs",
    jobs: int = 1,
    search_lr: LearningRateSearch | int | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    retry_failed: bool = False,
    **settings: Any,
) -> list[RunRecord]:
    """Run every adapter on every task with every seed; returns the records, a failed run's among them.

    Finished runs in `runs` are read, not repeated. `settings` are fields of `Train` (`steps=100`). `search_lr` tries
    that many learning rates for every adapter and task first (`LearningRateSearch` sets the grid). `vary` adds the
    values of any setting (`{"train.learning_rate": (1e-4, 1e-3), "lora.targets": (("attention",), ("all",))}`): every
    combination runs. `jobs` above 1 is the number of concurrent runs, each in its own process; a script must then call
    this under `if __name__ == "__main__":`. Records come in the order tasks, seeds, adapters, varied values. Raises
    UsageError if the settings make no sense.
    """
    if not 1 <= jobs <= LARGEST_JOBS:
        raise UsageError(f"jobs must be at least 1 and at most {LARGEST_JOBS}, not {jobs}")
    if isinstance(search_lr, int):
        search_lr = LearningRateSearch(search_lr)
    base = with_settings(train, settings)
    axes = [axis_of(setting, values) for setting, values in (vary or {}).items()]
    configs = resolved(varied(crossed(_listed(tasks), _listed(seeds), _listed(adapters), base), axes))
    groups = seed_groups(configs, Path(runs), search_lr, names_of(axes))
    launcher = InProcessLauncher() if jobs == 1 else LocalLauncher(jobs)
    find_rates(groups, launcher)
    failures = perform_runs(groups, configs, launcher, retry_failed)
    reasons = {job.folder.path: reason for job, reason in failures.items()}
    by_config, _ = runs_of(groups)
    ordered = [by_config.get(id(config)) or RunJob(config, Path(runs)) for config in configs]
    return [_record(job, reasons.get(job.folder.path)) for job in ordered]


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, Sequence) else [values]


def _record(job: RunJob, reason: str | None) -> RunRecord:
    """The record in the job's folder; for a run that ended without one, a record that is not on the disk."""
    from experiments.process.device import device_of
    from experiments.records.contents import head_of

    record = job.folder.result()
    if record is None:
        head = head_of(job.config, job.folder, device_of(job.config))
        record = head | {"status": "failed", "reason": reason}
    return RunRecord(job.folder.path, record)


def find_rates(groups: Sequence[SeedGroup], launcher: Launcher) -> None:
    """Perform the missing trials, and print where the best rate is at the edge of all that were tried."""
    from experiments.sweeping.display import run_jobs

    to_do: dict[Job, SeedGroup] = {trial: group for group in groups for trial in group.trials() if not trial.done}
    if any(group.search is not None for group in groups):
        finished = sum(trial.done for group in groups for trial in group.trials())
        print(f"learning-rate trials: {finished} finished, {len(to_do)} to do, and those that their losses ask for")

    def next_trials(ended: Ended) -> list[Job]:
        """What the group of an ended trial wants to try, once its other trials have ended too."""
        group = to_do[ended.job]
        if not all(trial.done for trial, other in to_do.items() if other is group):
            return []
        new = [trial for trial in group.trials() if not trial.done]
        to_do.update(dict.fromkeys(new, group))
        return list(new)

    run_jobs(list(to_do), launcher, "learning-rate trials", next_trials)
    for group in groups:
        with suppress(UsageError):  # the group's runs report it
            search = group.outcome()
            if search is not None and search["edge"] is not None:
                print(
                    f"{group.configs[0].task.name} {describe_adapter(group.adapter)}: the best rate, "
                    f"{search['chosen']:g}, is the {search['edge']} of {len(search['trials'])}: a better one may lie "
                    "beyond"
                )


def runs_of(groups: Sequence[SeedGroup]) -> tuple[dict[int, RunJob], dict[Job, str]]:
    """The runs by the identity of their configuration, and those that cannot start, with the reason."""
    runs, blocked = {}, {}
    for group in groups:
        try:
            runs |= {id(config): run for config, run in zip(group.configs, group.runs(), strict=True)}
        except UsageError as reason:
            blocked |= {RunJob(config, group.root, group.varied): str(reason) for config in group.configs}
    return runs, blocked


def perform_runs(
    groups: Sequence[SeedGroup], configs: Sequence[RunConfig], launcher: Launcher, retry_failed: bool
) -> dict[Job, str]:
    """Perform the missing runs in the order of `configs`; returns those that failed, with their reasons."""
    from experiments.sweeping.display import run_jobs

    by_config, failures = runs_of(groups)
    runs = [by_config[id(config)] for config in configs if id(config) in by_config]
    for run in runs:
        run.write_search()
    records = {run: run.folder.result() for run in runs}
    failed = {run: record["reason"] for run, record in records.items() if record and record["status"] == "failed"}
    if retry_failed:
        for run in failed:
            run.folder.clear()
    else:
        failures |= {run: f"{reason} (in an earlier sweep)" for run, reason in failed.items()}
    missing = [run for run in runs if not run.done and run not in failures]
    print(f"runs: {len(configs)}, of which {sum(run.done for run in runs)} are finished and {len(missing)} to do")
    return failures | run_jobs(missing, launcher, "runs")


def unfinished(groups: Sequence[SeedGroup]) -> list[RunConfig]:
    """The configurations of the trials and runs that are to do, as far as they are known."""
    trials = [trial for group in groups for trial in group.trials() if not trial.done]
    runs, waiting = runs_of(groups)
    return [job.config for job in [*trials, *(run for run in runs.values() if not run.done), *waiting]]


def show_state(groups: Sequence[SeedGroup]) -> None:
    """Print the trials and runs with their progress; a run whose search is not over has no rate yet."""
    from experiments.sweeping.display import show_plan

    trials: list[Job] = [trial for group in groups for trial in group.trials()]
    runs, waiting = runs_of(groups)
    show_plan([*trials, *runs.values()])
    if waiting:
        print(f"{len(waiting)} more runs wait for their learning rate")
    finished = sum(run.done for run in runs.values())
    print(f"{len(runs) + len(waiting)} runs: {finished} finished, {len(runs) + len(waiting) - finished} not")
