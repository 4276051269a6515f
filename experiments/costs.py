"""What each method costs on one task, measured under one protocol: `python -m experiments.costs TASK`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.base import adapter_registry, method_names
from adapters.bounds import LARGEST_COUNT, bounded
from adapters.errors import AdapterError
from experiments.cli.errors import command
from experiments.cli.overrides import Overrides, method_settings
from experiments.cli.parser import parse_task
from experiments.config import RunConfig, Train, registered
from experiments.errors import UsageError, check_numbers
from experiments.measure.method_costs import COSTS_FILE, PHASES, CostSettings, measure_costs
from experiments.process.device import device_of
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
    print(f"loading the task; then {len(configs)} configurations are measured in turn", file=sys.stderr, flush=True)
    for failure in costs(configs, options, options.runs):
        print(f"left out: {failure}", file=sys.stderr)
    print(f"for the table: python -m reports costs {configs[0].task.name} --runs {options.runs}")


def costs(configs: list[RunConfig], settings: CostSettings, runs: Path) -> list[str]:
    """Measure resolved configurations of one task and write `costs.json` for each.

    Says beforehand how long it will take. Returns a sentence for each method that does not work on the model.
    """
    from experiments.measure.cost_duration import announced

    prepared, task = configs[0].task.prepare(device_of(configs[0])), configs[0].task
    print(announced(configs[0], settings, prepared, len(configs)), file=sys.stderr, flush=True)
    failures = []
    with _Progress(len(configs)) as progress:
        for config in configs:
            label = describe_adapter(config.adapter)
            try:
                if config.task != task:  # the base in another precision
                    prepared, task = config.task.prepare(device_of(config)), config.task
                record = measure_costs(config, settings, prepared, runs, progress.phase(label))
            except AdapterError as error:
                failures.append(f"{config.adapter.name}: {error}")
                continue
            finally:
                progress.end()
            file = RunFolder.of(runs, config).path / COSTS_FILE
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, record)
            progress.write(f"{label}: {file}")
    return failures


class _Progress:
    """One bar over all methods and their phases, on standard error; it names what is being measured."""

    def __init__(self, methods: int):
        from tqdm import tqdm

        shown = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"
        self.bar = tqdm(total=methods * len(PHASES), desc="measuring", bar_format=shown)
        self.begun, self.ended = 0, 0  # phases of this method, and all phases of the methods that have ended

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.close()

    def phase(self, label: str) -> Callable[[str], None]:
        """What `measure_costs` calls when a phase of this method begins."""

        def begin(phase: str) -> None:
            self.bar.set_description_str(f"{label}, {phase}")
            self._show(self.ended + self.begun)
            self.begun += 1

        return begin

    def end(self) -> None:
        """The method has ended, with all of its phases or with an error."""
        self.ended, self.begun = self.ended + len(PHASES), 0
        self._show(self.ended)

    def _show(self, done: int) -> None:
        self.bar.update(done - self.bar.n)

    def write(self, text: str) -> None:
        """A line on standard output, above the bar."""
        self.bar.write(text)


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
