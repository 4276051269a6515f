"""Measure the intrinsic dimension of a task: `python -m experiments.intrinsic [METHOD] TASK`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.bounds import bounded
from experiments.cli.errors import command, stop
from experiments.cli.parser import asks_help, parse
from experiments.records.folder import write_json
from experiments.search.intrinsic_dimension import IntrinsicSettings, intrinsic_dimension
from experiments.search.outcome_text import outcome_text
from experiments.sweeping.jobs import LARGEST_JOBS
from experiments.training.signals import Interruption
from tasks.base import task_registry
from tasks.cache import digest

PROGRAM = "python -m experiments.intrinsic"
METHOD = "subspace"  # the default METHOD


@dataclass(frozen=True)
class IntrinsicOptions(IntrinsicSettings):
    """Find the smallest size at which METHOD (default: subspace) reaches 90 % of full fine-tuning's gain, over seeds.

    On the planted tasks it is 90 % of the teacher's effect. Every measured size is an ordinary run; finished runs are
    reused. --train.learning-rate and --adapter.* apply to METHOD only; the other methods use what the base recommends.
    For example:
    python -m experiments.intrinsic e2e --seeds 0 1 2
    python -m experiments.intrinsic lora planted
    """

    runs: Path = Path("runs")
    """Folder for the records and the outcome."""
    jobs: int | None = bounded(None, at_least=1, at_most=LARGEST_JOBS)
    """Runs at a time, each in a process with its share of the cores and one GPU. Default: one per GPU, and one without
    GPUs."""


def main() -> None:
    config, options = parse(IntrinsicOptions, with_method(sys.argv[1:]), PROGRAM)
    options.check()
    from experiments.sweeping.local_launcher import LocalLauncher

    with Interruption():  # a scheduler's SIGTERM stops the workers as Ctrl-C does
        outcome = intrinsic_dimension(config, options, options.runs, LocalLauncher(options.jobs))
    name = digest(json.dumps(outcome["settings"], sort_keys=True, default=str).encode())[:12]
    file = options.runs / config.task.name / f"intrinsic-{name}.json"
    write_json(file, outcome)
    print(outcome_text(outcome), f"written: {file}", sep="\n")


def with_method(arguments: Sequence[str]) -> list[str]:
    """The command line with METHOD filled in: a single word before the options is the task."""
    words = [word for word in arguments[:2] if not word.startswith("-")]
    if not words and not asks_help(arguments):
        stop(f"expected a TASK, for example: {PROGRAM} e2e; the tasks are {', '.join(sorted(task_registry()))}")
    return [METHOD, *arguments] if len(words) == 1 else list(arguments)


if __name__ == "__main__":
    command(main)
