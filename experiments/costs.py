"""What each method costs on one task, measured under one protocol: `python -m experiments.costs TASK`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.base import adapter_registry, method_names
from adapters.bounds import LARGEST_COUNT, bounded
from adapters.errors import AdapterError
from experiments.cli.errors import command
from experiments.cli.overrides import Overrides, method_settings
from experiments.cli.parser import parse_task
from experiments.config import RunConfig, Train, registered
from experiments.device import device_of
from experiments.errors import UsageError, check_numbers
from experiments.measure.method_costs import COSTS_FILE, CostSettings, measure_costs
from experiments.records.folder import RunFolder, write_json
from experiments.sweeping.grid import sized
from experiments.sweeping.jobs import describe_adapter
from tasks.base import task_registry

PROGRAM = "python -m experiments.costs"


@dataclass(frozen=True)
class CostsOptions(CostSettings):
    """Measure what each method costs on TASK: parameters, bytes, memory, FLOPs, step time, latency, switching.

    A few training steps per method are enough; nothing is evaluated. For example:
    python -m experiments.costs sd-pokemon --methods lora full --sizes 4 16
    """

    methods: tuple[str, ...] = ()
    """Methods to measure. Default: all."""
    sizes: tuple[int, ...] = bounded((), at_least=1, at_most=LARGEST_COUNT)
    """Values of each method's size (rank, width, length, dimension). Default: the method's own."""
    set: tuple[str, ...] = ()
    """Settings of single methods, as METHOD.SETTING=VALUE: lora.alpha=8 "lora.targets=query value"."""
    runs: Path = Path("runs")
    """Folder for the records."""


def main() -> None:
    overrides, options = parse_task(CostsOptions, sys.argv[1:], PROGRAM)
    configs = configurations(overrides, options)
    print(f"loading the task, then measuring {len(configs)} configurations in turn", file=sys.stderr)
    for failure in costs(configs, options, options.runs):
        print(f"left out: {failure}", file=sys.stderr)
    print(f"for the table: python -m reports costs {configs[0].task.name} --runs {options.runs}")


def costs(configs: list[RunConfig], settings: CostSettings, runs: Path) -> list[str]:
    """Measure resolved configurations of one task and write `costs.json` for each.

    Returns a sentence for each method that does not work on the model.
    """
    prepared = configs[0].task.prepare(device_of(configs[0]))
    failures = []
    for number, config in enumerate(configs, start=1):
        label = describe_adapter(config.adapter)
        print(f"{number} of {len(configs)}: {label}", file=sys.stderr)
        try:
            record = measure_costs(config, settings, prepared, runs)
        except AdapterError as error:
            failures.append(f"{config.adapter.name}: {error}")
            continue
        file = RunFolder.of(runs, config).path / COSTS_FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, record)
        print(f"{label}: {file}", flush=True)
    return failures


def configurations(overrides: Overrides, options: CostsOptions) -> list[RunConfig]:
    """One resolved configuration per method and size. Raises UsageError if the command line makes no sense."""
    if overrides.task_name is None:
        known = ", ".join(sorted(task_registry()))
        raise UsageError(f"expected a TASK, for example: {PROGRAM} sd-pokemon; the tasks are {known}")
    if {"steps", "epochs"} & overrides.train.keys():
        raise UsageError("costs do not depend on --train.steps or --train.epochs: --steps sets the steps to time")
    check_numbers(options)
    settings, names = method_settings(options.set), options.methods or sorted(adapter_registry())
    methods = {name: registered(method_names(), name, "method") for name in names}
    adapters = [
        replace(adapter, **settings.get(name, {}))
        for name, method in methods.items()
        for adapter in sized(method, options.sizes, settings.get(name, {}))
    ]
    task = task_registry()[overrides.task_name]()
    return [overrides.apply(RunConfig(adapter, task, Train())).resolved() for adapter in adapters]


if __name__ == "__main__":
    command(main)
