"""Extract a LoRA from a finished run by SVD: `python -m experiments.extract RUN --rank 8`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.cli.errors import command
from experiments.cli.parser import parse_options
from experiments.updates.changed_update import describe_record
from experiments.updates.extraction import RankChoice, extract


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(RankChoice):
    """Extract a LoRA from any run that is a change of weights (full, lora, lycoris, subspace, most methods of peft),
    write it as files that diffusers, kohya's tools and peft load, and evaluate it as a record of its own.

    For example: python -m experiments.extract runs/sd-pokemon/full/1a2b3c4d5e6f --rank 8
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run. The record goes to RUNS/TASK/METHOD-extracted, or into the folder of a moved run."""
    overwrite: bool = False
    """Evaluate again what has been evaluated before."""


def main() -> None:
    options = parse_options(ExtractOptions, sys.argv[1:], "python -m experiments.extract")
    record = extract(options.run, options, options.overwrite)
    facts, ranks = record.data["facts"], record.data["facts"]["ranks"].values()
    left = facts["left_out"]
    print(
        f"ranks {min(ranks)} to {max(ranks)} in {len(ranks)} layers keep {facts['energy_kept']:.1%} of their update's "
        f"squared norm; {left['tensors']} other changed tensors, {left['share_of_squared_norm']:.1%} of the whole, are "
        "left out"
    )
    for file in sorted(path for path in (record.folder / "export").rglob("*") if path.is_file()):
        print(file)
    print(describe_record(record, "extracted"), flush=True)


if __name__ == "__main__":
    command(main)
