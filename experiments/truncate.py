"""Rank without retraining: `python -m experiments.truncate RUN --ranks 1 2 4 8`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from adapters.bounds import LARGEST_WIDTH, bounded
from experiments.cli.errors import command
from experiments.cli.parser import parse_options
from experiments.measure.truncation import truncate
from experiments.records.run_record import RunRecord


@dataclass(frozen=True)
class TruncateOptions:
    """Truncate a finished run's update to lower ranks and evaluate each: rank without retraining.

    Also writes the spectra of the update to the run's folder, for `python -m reports spectra`. For example:
    python -m experiments.truncate runs/sd-pokemon/lora/1a2b3c4d5e6f --ranks 1 2
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run. The records go to RUNS/TASK/METHOD-truncated, or into the folder of a moved run."""
    ranks: tuple[int, ...] = bounded((1, 2, 4, 8), at_least=1, at_most=LARGEST_WIDTH)
    """Ranks to evaluate."""
    overwrite: bool = False
    """Evaluate again what has been evaluated before."""


def main() -> None:
    options = parse_options(TruncateOptions, sys.argv[1:], "python -m experiments.truncate")
    for record in truncate(options.run, options.ranks, options.overwrite):
        print(describe_record(record), flush=True)


def describe_record(record: RunRecord) -> str:
    """One line: the rank and the primary metric with its interval, n and extractor, or why it has no figure."""
    rank = record.data["size"]["value"]
    if record.status == "failed":
        return f"rank {rank}: failed: {record.reason}: {record.folder / 'result.json'}"
    name = record.data["primary_metric"]
    figure = record.figure(name)
    interval = "" if figure.low is None else f" ({figure.low:.4g} to {figure.high:.4g})"
    measured = f"{name} {figure.value:.4g} {figure.unit}{interval}, n={figure.n}, {figure.extractor}"
    return f"rank {rank}: {measured}: {record.folder / 'result.json'}"


if __name__ == "__main__":
    command(main)
