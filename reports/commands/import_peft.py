"""`reports import-peft`: PEFT's published comparison as runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reports.commands.arguments import Folder


@dataclass(frozen=True)
class ImportPeftOptions:
    """Import PEFT's published comparison as runs.

    Every record of github.com/huggingface/peft, method_comparison, becomes a run folder marked by its source.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder that contains PEFT's .json files, at any depth."""
    runs: Folder = Path("runs")
    """Folder in which the runs are written."""


def import_peft(options: ImportPeftOptions) -> None:
    from reports.peft_records import import_records

    written, problems = import_records(options.folder, options.runs)
    for file, reason in problems:
        print(f"{file}: {reason}", file=sys.stderr)
    print(f"imported {len(written)} records into {options.runs}; {len(problems)} problems")
