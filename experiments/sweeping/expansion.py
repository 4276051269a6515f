"""What a sweep's command line stands for: its options, and the run configurations that they expand to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import cleandoc, getdoc
from pathlib import Path
from typing import Literal

from adapters.base import Adapter
from adapters.base import registry as adapter_registry
from experiments.cli.overrides import Overrides, method_settings
from experiments.config import RunConfig
from experiments.errors import UsageError, did_you_mean
from experiments.records.folder import RunFolder
from experiments.studies import SEEDS, STUDIES
from experiments.studies import crossed as every
from tasks.base import registry as task_registry

PROGRAM = "python -m experiments.sweep"


@dataclass(frozen=True)
class SweepOptions:
    """Run every method at every size with every seed on TASK; or the runs of a named study.

    Finished runs are skipped, interrupted ones go on, and a failed one does not stop the others. For example:
    python -m experiments.sweep sd-pokemon --methods lora full --sizes 1 4 16 --jobs 2
    python -m experiments.sweep --study rank
    """

    methods: tuple[str, ...] = ()
    """The methods to compare."""
    sizes: tuple[int, ...] = ()
    """Values of each method's size (rank, width, length, dimension). Default: each method's own."""
    seeds: tuple[int, ...] = ()
    """Seeds of each arm. Default: 0 1 2, or the study's own."""
    set: tuple[str, ...] = ()
    """Settings of single methods, as METHOD.SETTING=VALUE: lora.alpha=8 "lora.targets=query value"."""
    study: str | None = None
    """A named study in the place of --methods and --sizes; TASK keeps the study's runs on that task alone."""
    runs: Path = Path("runs")
    """Folder that the records go to."""
    launcher: Literal["local", "ray"] = "local"
    """Worker processes here, or Ray, here or on a cluster whose nodes share the storage of --runs."""
    jobs: int = 1
    """Runs at a time with the local launcher, each in a process with its share of the cores."""
    ray_address: str | None = None
    """The cluster for "ray": "auto" or host:port. Default: Ray on this machine."""
    run_cpus: int = 1
    """Cores that a run asks Ray for."""
    run_gpus: float | None = None
    """GPUs that a run asks Ray for; 0.5 lets two runs share one. Default: 1 where there are any."""
    retry_failed: bool = False
    """Try runs again that failed before."""
    search_lr: int | None = None
    """First try so many learning rates for every arm, and take the one of the lowest validation loss."""
    search_factor: float = 2.0
    """Between neighbouring rates; the grid's middle is the rate that would be taken without a search."""
    search_share: float = 0.5
    """Share of an arm's steps that a trial takes."""
    dry_run: bool = False
    """Only say what would run, and how much of it is there already."""


def description() -> str:
    """The command's help, with the studies and what each one asks."""
    lines = [f"  {name}: {(getdoc(study) or '').splitlines()[0]}" for name, study in STUDIES.items()]
    return "\n".join([cleandoc(SweepOptions.__doc__ or ""), "", "Studies:", *lines])


def configurations(overrides: Overrides, options: SweepOptions) -> list[RunConfig]:
    """All runs of the command line, resolved, each once. Raises UsageError where it makes no sense."""
    if options.jobs < 1:
        raise UsageError(f"--jobs must be at least 1, not {options.jobs}")
    settings = method_settings(options.set)
    chosen = of_study(overrides, options) if options.study else crossed(overrides, options, settings)
    unused = settings.keys() - {config.adapter.name for config in chosen}
    if unused:
        raise UsageError(f"--set names {', '.join(sorted(unused))}, which is not among the methods of this sweep")
    found = (
        overrides.apply(
            replace(config, adapter=replace(config.adapter, **settings.get(config.adapter.name, {})))
        ).resolved()
        for config in chosen
    )
    return list({RunFolder.of(options.runs, config).path: config for config in found}.values())


def of_study(overrides: Overrides, options: SweepOptions) -> list[RunConfig]:
    """The configurations of the named study, on the given task alone where there is one."""
    if options.methods or options.sizes:
        raise UsageError("a study names its methods and sizes: leave --methods and --sizes out, or --study")
    name = options.study or ""
    if name not in STUDIES:
        raise UsageError(
            f"there is no study '{name}'{did_you_mean(name, STUDIES)}; the studies are {', '.join(STUDIES)}"
        )
    configs = STUDIES[name](options.seeds or None)
    tasks = {config.task.name for config in configs}
    if overrides.task_name is not None and overrides.task_name not in tasks:
        raise UsageError(f"the study '{name}' is on {', '.join(sorted(tasks))}, not on {overrides.task_name}")
    return [config for config in configs if overrides.task_name in (None, config.task.name)]


def crossed(overrides: Overrides, options: SweepOptions, settings: dict[str, dict]) -> list[RunConfig]:
    """Every method at every size with every seed; the first seed of all arms comes first."""
    methods = adapter_registry()
    if overrides.task_name is None:
        known = ", ".join(sorted(task_registry()))
        raise UsageError(f"expected a TASK or a --study, for example: {PROGRAM} sd-pokemon; the tasks are {known}")
    if not options.methods:
        raise UsageError(f"expected --methods or a --study; the methods are {', '.join(sorted(methods))}")
    for name in options.methods:
        if name not in methods:
            known = ", ".join(sorted(methods))
            raise UsageError(f"there is no method '{name}'{did_you_mean(name, methods)}; the methods are {known}")
    task = task_registry()[overrides.task_name]()
    arms = [arm for name in options.methods for arm in sized(methods[name], options.sizes, settings.get(name, {}))]
    return every([task], options.seeds or SEEDS, arms)


def sized(method: type[Adapter], sizes: Sequence[int], settings: dict) -> list[Adapter]:
    """The method at each size; once where it has none to vary."""
    default, size_field = method(), method.size_field
    if not sizes:
        return [default]
    if size_field is None or getattr(default, size_field) is None:
        print(f"{method.name} has no size that is varied: it runs once a seed")
        return [default]
    if size_field in settings:
        raise UsageError(f"{method.name}.{size_field} is what --sizes varies: leave it out of --set, or --sizes")
    return [replace(default, **{size_field: size}) for size in sizes]
