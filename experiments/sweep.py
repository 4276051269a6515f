"""Many runs by one command: `python -m experiments.sweep TASK --methods lora full --sizes 1 4 16 --seeds 0 1 2`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

from experiments.cli.errors import command, stop
from experiments.cli.parser import parse_task
from experiments.sweeping.grid import PROGRAM, SweepOptions, configurations, description
from experiments.sweeping.jobs import Job
from experiments.sweeping.learning_rates import LearningRateSearch, seed_groups
from experiments.sweeping.runner import find_rates, perform_runs, show_state
from experiments.training.signals import Interruption

if TYPE_CHECKING:
    from experiments.sweeping.local_launcher import Launcher


def main() -> None:
    overrides, options = parse_task(SweepOptions, sys.argv[1:], PROGRAM, description())
    configs = configurations(overrides, options)
    groups = seed_groups(configs, options.runs, search_of(options))
    if options.dry_run:
        show_state(groups)
        return
    launcher = launcher_of(options)
    with Interruption():  # a scheduler's SIGTERM ends the workers as Ctrl-C does
        find_rates(groups, launcher)
        failures = perform_runs(groups, configs, launcher, options.retry_failed)
    if failures:
        stop_with(failures, len(configs))


def search_of(options: SweepOptions) -> LearningRateSearch | None:
    """The search of learning rates that the options ask for."""
    if options.search_lr is None:
        return None
    return LearningRateSearch(options.search_lr, options.search_factor, options.search_share)


def launcher_of(options: SweepOptions) -> Launcher:
    """The launcher that the options name."""
    if options.launcher == "ray":
        from experiments.sweeping.ray_launcher import RayLauncher

        return RayLauncher(options.ray_address, options.run_cpus, options.run_gpus)
    from experiments.sweeping.local_launcher import LocalLauncher

    return LocalLauncher(options.jobs)


def stop_with(failures: dict[Job, str], total: int) -> NoReturn:
    """End with status 1 and name every failed run, those with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for job, reason in failures.items():
        by_reason.setdefault(reason, []).append(job.label)
    lines = [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    retry = "add --retry-failed to the same command to repeat runs with a failed record"
    stop("\n  ".join([f"{len(failures)} of {total} runs failed; {retry}", *lines]), status=1)


if __name__ == "__main__":
    command(main)
