"""Measure the untuned bundled bases for the package: `python -m tasks.bundled.evaluate [TASK ...]`.

To be repeated when a bundled base, a task's data or defaults or a metric changes; runs on a CPU then need not measure
their base first.
"""

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from experiments.cli.errors import command
from experiments.cli.parser import parse_options
from tasks.base import task_registry
from tasks.base_evaluation import ship
from tasks.errors import TaskError

BUNDLED = ("sd-pokemon", "sd-dreambooth", "e2e", "style", "sft")


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure the untuned base of tasks at their default settings, on the CPU, and write the files that are shipped.

    About 2 minutes for sd-pokemon on two quiet cores, 1 minute for each of the others.
    """

    tasks: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[TASK ...]")] = BUNDLED
    """The tasks."""


def main() -> None:
    options = parse_options(EvaluateOptions, sys.argv[1:], "python -m tasks.bundled.evaluate", __doc__)
    registry = task_registry()
    unknown = sorted(set(options.tasks) - registry.keys())
    if unknown:
        raise TaskError(f"unknown task '{unknown[0]}'; the tasks are {', '.join(sorted(registry))}")
    import torch

    for name in options.tasks:
        prepared = registry[name]().on_cpu().prepare(torch.device("cpu"))
        print(ship(name, prepared), flush=True)


if __name__ == "__main__":
    command(main)
