"""Many runs by one command: `python -m experiments.sweep TASK --methods lora full --sizes 1 4 16 --seeds 0 1 2`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from experiments.cli.errors import command, stop
from experiments.cli.parser import parse_task
from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.sweeping.expansion import PROGRAM, SweepOptions, configurations, description
from experiments.sweeping.jobs import Job, RunJob
from experiments.sweeping.jobs import arm as describe
from experiments.sweeping.learning_rates import LearningRateSearch, SeedGroup, arms_of
from experiments.training.signals import Interruption

if TYPE_CHECKING:
    from experiments.sweeping.local_launcher import Launcher


def main() -> None:
    given, options = parse_task(SweepOptions, sys.argv[1:], PROGRAM, description())
    configs = configurations(given, options)
    arms = arms_of(configs, options.runs, search_of(options))
    if options.dry_run:
        show_state(arms)
        return
    launcher = launcher_of(options)
    with Interruption():  # a scheduler's SIGTERM ends the workers as Ctrl-C does
        find_rates(arms, launcher)
        failures = perform_runs(arms, configs, launcher, options.retry_failed)
    if failures:
        stop_with(failures, len(configs))


def search_of(options: SweepOptions) -> LearningRateSearch | None:
    if options.search_lr is None:
        return None
    return LearningRateSearch(options.search_lr, options.search_factor, options.search_share)


def launcher_of(options: SweepOptions) -> Launcher:
    if options.launcher == "ray":
        from experiments.sweeping.ray_launcher import RayLauncher

        return RayLauncher(options.ray_address, options.run_cpus, options.run_gpus)
    from experiments.sweeping.local_launcher import LocalLauncher

    return LocalLauncher(options.jobs)


def show_state(arms: Sequence[SeedGroup]) -> None:
    """Trials and runs with how far each one is; runs whose search is not over have no rate yet."""
    from experiments.sweeping.display import show_plan

    jobs: list[Job] = [trial for arm in arms for trial in arm.trials]
    runs, waiting = runs_of(arms)
    show_plan([*jobs, *runs.values()])
    if waiting:
        print(f"{len(waiting)} more runs wait for their learning rate")
    finished = sum(run.done for run in runs.values())
    print(f"{len(runs) + len(waiting)} runs: {finished} finished, {len(runs) + len(waiting) - finished} not")


def find_rates(arms: Sequence[SeedGroup], launcher: Launcher) -> None:
    """Perform the trials that are left; says where the best rate is the last one tried."""
    from experiments.sweeping.display import perform

    trials = [trial for arm in arms for trial in arm.trials]
    left = [trial for trial in trials if not trial.done]
    if trials:
        print(f"{len(trials)} trials of learning rates: {len(trials) - len(left)} are there, {len(left)} to do")
    perform(left, launcher, "trials of learning rates")
    for arm in arms:
        with suppress(UsageError):  # its runs will say so
            found = arm.outcome()
            if found is not None and found["edge"] is not None:
                print(
                    f"{arm.trials[0].config.task.name} {describe(arm.configs[0].adapter)}: the best rate, "
                    f"{found['chosen']:g}, is the {found['edge']} of {len(arm.trials)}: a better one may lie beyond"
                )


def runs_of(arms: Sequence[SeedGroup]) -> tuple[dict[int, RunJob], dict[Job, str]]:
    """The runs by the identity of their configuration; those that cannot begin, with the reason."""
    runs, stuck = {}, {}
    for arm in arms:
        try:
            runs |= {id(config): run for config, run in zip(arm.configs, arm.runs(), strict=True)}
        except UsageError as reason:
            stuck |= {RunJob(config, arm.root): str(reason) for config in arm.configs}
    return runs, stuck


def perform_runs(
    arms: Sequence[SeedGroup], configs: Sequence[RunConfig], launcher: Launcher, retry_failed: bool
) -> dict[Job, str]:
    """Perform the runs that are left, in the order of `configs`; those that failed, with their reasons."""
    from experiments.sweeping.display import perform

    by_config, failures = runs_of(arms)
    runs = [by_config[id(config)] for config in configs if id(config) in by_config]
    for run in runs:
        run.keep_search()
    records = {run: run.folder.result() for run in runs}
    failed = {run: record["reason"] for run, record in records.items() if record and record["status"] == "failed"}
    if retry_failed:
        for run in failed:
            run.folder.clear()
    else:
        failures |= {run: f"{reason} (in an earlier sweep)" for run, reason in failed.items()}
    left = [run for run in runs if not run.done and run not in failures]
    print(f"{len(configs)} runs: {sum(run.done for run in runs)} have finished before, {len(left)} to do")
    return failures | perform(left, launcher, "runs")


def stop_with(failures: dict[Job, str], total: int) -> NoReturn:
    """End with status 1, every failed run named, those of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for job, reason in failures.items():
        by_reason.setdefault(reason, []).append(job.label)
    lines = [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    again = "the same command with --retry-failed tries again what has a failed record"
    stop("\n  ".join([f"{len(failures)} of {total} runs failed; {again}", *lines]), status=1)


if __name__ == "__main__":
    command(main)
