"""Rank without retraining: `python -m experiments.truncate RUN`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from adapters.bounds import LARGEST_WIDTH, bounded
from experiments.cli.errors import command
from experiments.cli.parser import parse_options
from experiments.records.run_record import RunRecord
from experiments.updates.changed_update import describe_record
from experiments.updates.intruders import IntruderCriterion, scale_intruders
from experiments.updates.truncation import truncate


@dataclass(frozen=True, kw_only=True)
class TruncateOptions(IntruderCriterion):
    """Truncate a finished run's update to lower ranks and evaluate each: rank without retraining. Or scale its intruder
    dimensions: singular vectors of W_0 + dW that resemble none of W_0's (Shuttleworth et al. 2024, arXiv 2410.21228).

    Also writes the spectra of the update to the run's folder, for `python -m reports spectra`. For example:
    python -m experiments.truncate runs/sd-pokemon/lora/1a2b3c4d5e6f --ranks 1 2
    python -m experiments.truncate runs/sd-pokemon/lora/1a2b3c4d5e6f --intruder-scales 0 0.5
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run. The records go to RUNS/TASK/METHOD-truncated, or into the folder of a moved run."""
    ranks: tuple[int, ...] = bounded((), at_least=1, at_most=LARGEST_WIDTH)
    """Ranks to evaluate. Default: 1, 2, 4 and 8, up to the run's own rank."""
    intruder_scales: tuple[float, ...] = bounded((), at_least=0, at_most=10)
    """Instead of --ranks, factors for the intruder dimensions to evaluate: 0 removes them, 1 is the run itself; records
    of METHOD-intruders."""
    overwrite: bool = False
    """Evaluate again what has been evaluated before."""


def main() -> None:
    options = parse_options(TruncateOptions, sys.argv[1:], "python -m experiments.truncate")
    if options.intruder_scales:
        for record in scale_intruders(options.run, options, options.intruder_scales, options.overwrite):
            print(describe_scaled(record), flush=True)
        return
    for record in truncate(options.run, options.ranks, options.overwrite):
        print(describe_record(record, f"rank {record.data['size']['value']}"), flush=True)


def describe_scaled(record: RunRecord) -> str:
    """One line: the scale, the primary metric, and how far the model has drifted if the task measures that."""
    scale, drift = record.data["config"]["adapter"]["scale"], record.data["metrics"].get("drift")
    beside = "" if drift is None else f", drift {drift['value']:.4g} {drift['unit']}"
    return describe_record(record, f"intruders x {scale:g}{beside}")


if __name__ == "__main__":
    command(main)
