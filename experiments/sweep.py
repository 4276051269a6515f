"""Many runs by one command: `python -m experiments.sweep TASK --methods lora full --sizes 1 4 16 --seeds 0 1 2`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import cleandoc, getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import tyro

from adapters.base import Adapter, method_names
from adapters.bounds import LARGEST_COUNT, bounded
from experiments.cli.errors import command, stop
from experiments.cli.overrides import Overrides, method_settings
from experiments.cli.parser import parse_task
from experiments.config import RunConfig, registered, uses_cuda
from experiments.errors import UsageError, check_numbers, did_you_mean
from experiments.process.device import visible_gpus
from experiments.sweeping.grid import PARTS, SEEDS, Axis, crossed, names_of, resolved, sized, varied
from experiments.sweeping.jobs import LARGEST_JOBS, Job
from experiments.sweeping.learning_rates import LearningRateSearch, SeedGroup, seed_groups
from experiments.sweeping.named_grids import NAMED_GRIDS, axes_of_grid
from experiments.sweeping.rates_file import check_saving, save_searches
from experiments.sweeping.results import show_results
from experiments.sweeping.runner import find_rates, perform_runs, show_state, unfinished
from experiments.sweeping.studies import STUDIES
from experiments.sweeping.variation import axis_of_words, refuse_overlap
from experiments.training.settings import LARGEST_SEED
from experiments.training.signals import Interruption
from tasks.base import task_registry

if TYPE_CHECKING:
    from experiments.sweeping.local_launcher import Launcher

PROGRAM = "python -m experiments.sweep"


@dataclass(frozen=True)
class SweepOptions:
    """Run every method at every size with every seed on TASK, or the runs of a named study.

    Finished runs are skipped, interrupted ones resume, and a failed one does not stop the others.

    For example:
    python -m experiments.sweep sd-pokemon --methods lora full --sizes 1 4 16 --jobs 2
    python -m experiments.sweep style --methods lora --sizes 1 4 16 --vary train.learning-rate 1e-4 3e-4 1e-3
    python -m experiments.sweep --study rank
    """

    methods: tuple[str, ...] = ()
    """The methods to compare."""
    sizes: tuple[int, ...] = bounded((), at_least=1, at_most=LARGEST_COUNT)
    """Values of each method's size (rank, width, length, dimension). Default: the method's own default."""
    seeds: tuple[int, ...] = bounded((), at_least=0, at_most=LARGEST_SEED)
    """Seeds to run each setting with. Default: 0 1 2, or the study's seeds."""
    set: tuple[str, ...] = ()
    """Settings of single methods, as METHOD.SETTING=VALUE: lora.alpha=8 "lora.targets=query value"."""
    vary: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Values of any setting, as SETTING VALUE [VALUE ...]: train.learning-rate 1e-4 1e-3, task.resolution 32 64,
    adapter.targets attention feed-forward (of every method) or lora.targets "query value" all (of one). Repeat it for
    more settings: every combination runs, at every size and seed."""
    grid: str | None = None
    """A named grid of two settings of --methods; --sizes replaces its sizes."""
    study: str | None = None
    """A named study instead of --methods and --sizes; TASK restricts it to its runs on that task."""
    runs: Path = Path("runs")
    """Folder for the records."""
    launcher: Literal["local", "ray"] = "local"
    """Worker processes on this machine, or Ray (here or on a cluster whose nodes share the storage of --runs)."""
    jobs: int | None = bounded(None, at_least=1, at_most=LARGEST_JOBS)
    """Concurrent runs of the local launcher, each in a process with its share of the cores and one GPU (more runs than
    GPUs share them). Default: one per GPU, and one without GPUs."""
    ray_address: str | None = None
    """The cluster for "ray": "auto" or host:port. Default: start Ray on this machine."""
    run_cpus: int = bounded(1, at_least=1, at_most=LARGEST_JOBS)
    """Cores that a run requests from Ray."""
    run_gpus: float | None = bounded(None, at_least=0, at_most=LARGEST_JOBS)
    """GPUs that a run requests from Ray; 0.5 lets two runs share one. Default: 1 if there are any."""
    retry_failed: bool = False
    """Repeat runs that have failed before."""
    search_lr: int | None = bounded(None, at_least=2, at_most=1000)
    """Learning rates to begin with (5 is usual) for every setting before its runs: those of the series
    0.001 * factor**n (n whole) that are closest to the rate which the setting would take without a search. The grid
    grows until the best rate has neighbours on both sides and is refined once; the rate with the lowest validation loss
    is taken."""
    search_factor: float = bounded(3.0, above=1, at_most=1000)
    """Ratio of neighbouring rates in the search."""
    search_share: float = bounded(1.0, above=0, at_most=1)
    """Share of a run's steps that a trial of the search takes. Short trials are cheaper, but may choose a rate that a
    whole run does not stand: on `planted` (gpt-mini, one seed), trials of a quarter chose .009 for LoRA of rank 4,
    whole ones .003."""
    save_rates: Path | None = None
    """Search only, and write the searches into this file, in place of earlier ones of the same settings. As
    learning_rates.json in the folder of the base, it gives the default learning rates on it."""
    dry_run: bool = False
    """Print the runs and their progress, and run nothing."""


def main() -> None:
    overrides, options = parse_task(SweepOptions, sys.argv[1:], PROGRAM, description())
    configs = configurations(overrides, options)
    varied_settings = names_of(axes_of(overrides, options).values())
    groups = seed_groups(configs, options.runs, search_of(options), varied_settings)
    if options.dry_run:
        show_state(groups)
        print_expected(groups, options)
        return
    if options.save_rates is not None:
        check_saving(groups, options.save_rates)
    launcher = launcher_of(options)
    print_expected(groups, options)
    with Interruption():  # a scheduler's SIGTERM ends the workers as Ctrl-C does
        find_rates(groups, launcher)
        if options.save_rates is not None:
            without_rate = save_searches(groups, options.save_rates)
            print(f"{len(groups) - len(without_rate)} of {len(groups)} searches written to {options.save_rates}")
            if without_rate:
                stop("\n  ".join(["no learning rate was found for", *without_rate]), status=1)
            return
        failures = perform_runs(groups, configs, launcher, options.retry_failed)
    show_results(groups)
    if failures:
        stop_with(failures, len(configs))


def description() -> str:
    """The command's help, with the grids and studies and the question that each one asks."""
    grids, studies = _questions(NAMED_GRIDS), _questions(STUDIES)
    return "\n".join([cleandoc(SweepOptions.__doc__ or ""), "", "Grids:", *grids, "", "Studies:", *studies])


def _questions(named: Mapping[str, Any]) -> list[str]:
    return [f"  {name}: {(getdoc(function) or '').splitlines()[0]}" for name, function in named.items()]


def configurations(overrides: Overrides, options: SweepOptions) -> list[RunConfig]:
    """All runs of a command line, resolved, without duplicates. Raises UsageError if it makes no sense."""
    check_numbers(options)
    if options.save_rates is not None and options.search_lr is None:
        raise UsageError("--save-rates writes what a search has found: give --search-lr 5 too")
    settings = method_settings(options.set)
    chosen = _of_study(overrides, options, settings) if options.study else _of_methods(overrides, options, settings)
    methods = {config.adapter.name: type(config.adapter) for config in chosen}
    unused = settings.keys() - {*options.methods, *(methods if options.study else ())}
    if unused:
        raise UsageError(f"--set names {', '.join(sorted(unused))}, which is not among the methods of this sweep")
    axes = axes_of(overrides, options)
    _check_axes(axes, overrides, options, settings, methods)
    return resolved(varied([overrides.apply(config) for config in chosen], list(axes.values())))


def axes_of(overrides: Overrides, options: SweepOptions) -> dict[str, Axis]:
    """What a command line varies besides method, size and seed, by the option that says so.

    Raises UsageError for an unknown grid, and as `axis_of_words` does.
    """
    if options.grid is not None and (options.study or overrides.task_name is None):
        raise UsageError("--grid needs a TASK and --methods, and no --study, which has runs of its own")
    axes = {f"--vary {words[0] if words else ''}": axis_of_words(words) for words in options.vary}
    if len(axes) < len(options.vary):
        raise UsageError("--vary names a setting twice: give all its values at once")
    if options.grid is not None and overrides.task_name is not None:
        task = task_registry()[overrides.task_name]
        grid = axes_of_grid(options.grid, task, bool(options.sizes))
        axes |= {f"--grid {options.grid}" + (f", axis {i}" if i else ""): axis for i, axis in enumerate(grid)}
    return axes


def _check_axes(
    axes: Mapping[str, Axis],
    overrides: Overrides,
    options: SweepOptions,
    settings: Mapping[str, Mapping[str, Any]],
    methods: Mapping[str, type[Adapter]],
) -> None:
    """Raise UsageError if two options decide the same setting, or an axis is of a method that does not run."""
    parts = {name.partition(".")[0] for axis in axes.values() for name in axis.settings}
    absent = sorted(parts - {*PARTS} - methods.keys())
    if absent:
        raise UsageError(f"--vary names {absent[0]}, which is not among the methods of this sweep")
    fixed = {}
    if options.sizes or options.grid is not None:
        sizing = "--sizes" if options.sizes else f"--grid {options.grid}"
        fixed |= {f"{name}.{cls.size_field}": sizing for name, cls in methods.items() if cls.size_field}
    fixed |= {f"{method}.{name}": "--set" for method, names in settings.items() for name in names}
    if options.search_lr is not None:
        fixed["train.learning_rate"] = "--search-lr"
    refuse_overlap(axes, fixed)
    # a grid varies around what the command line sets, the values of --vary are its own
    refuse_overlap({option: axis for option, axis in axes.items() if option.startswith("--vary")}, overrides.options())


def _of_study(
    overrides: Overrides, options: SweepOptions, settings: Mapping[str, Mapping[str, Any]]
) -> list[RunConfig]:
    """The configurations of the named study, on TASK alone if one is given."""
    if options.methods or options.sizes:
        raise UsageError("a study defines its methods and sizes: leave out --methods and --sizes, or --study")
    name = options.study or ""
    if name not in STUDIES:
        raise UsageError(f"unknown study '{name}'{did_you_mean(name, STUDIES)}; the studies are {', '.join(STUDIES)}")
    configs = STUDIES[name](options.seeds or None)
    tasks = {config.task.name for config in configs}
    if overrides.task_name is not None and overrides.task_name not in tasks:
        raise UsageError(f"the study '{name}' is on {', '.join(sorted(tasks))}, not on {overrides.task_name}")
    return [
        replace(config, adapter=replace(config.adapter, **settings.get(config.adapter.name, {})))
        for config in configs
        if overrides.task_name in (None, config.task.name)
    ]


def _of_methods(
    overrides: Overrides, options: SweepOptions, settings: Mapping[str, Mapping[str, Any]]
) -> list[RunConfig]:
    """Every method at every size with every seed; the first seed of all settings comes first."""
    methods = method_names()
    if overrides.task_name is None:
        tasks = ", ".join(sorted(task_registry()))
        raise UsageError(f"expected a TASK or a --study, for example: {PROGRAM} sd-pokemon; the tasks are {tasks}")
    if not options.methods:
        raise UsageError(f"expected --methods or a --study; the methods are {', '.join(sorted(methods))}")
    adapters = [
        replace(adapter, **settings.get(name, {}))
        for name in options.methods
        for adapter in sized(registered(methods, name, "method"), options.sizes, settings.get(name, {}))
    ]
    return crossed([task_registry()[overrides.task_name]()], options.seeds or SEEDS, adapters)


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


def print_expected(groups: Sequence[SeedGroup], options: SweepOptions) -> None:
    """Print how long the trials and runs that are to do will take, if anything is known about it."""
    from experiments.planning.expected_time import expected_time
    from experiments.process.openmp import usable_cores

    configs = unfinished(groups)
    on_cuda = any(uses_cuda(config.train) for config in configs)
    shares = launcher_of(options).shares(on_cuda)
    if shares is None:
        expected, manner = expected_time(configs, options.runs), ", one after the other"
    else:
        count, threads = shares
        devices = len(visible_gpus()) if on_cuda else usable_cores()
        expected, manner = expected_time(configs, options.runs, max(1, min(count, devices)), threads), ""
    if expected:
        print(f"expected time of {len(configs)} runs and trials{manner}: {expected}", file=sys.stderr, flush=True)


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
