"""`reports compare`: two runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class CompareOptions:
    """Compare two runs: their methods over seeds, and the two trained models item by item.

    Both must be runs of one task; the models are compared on the items that both were evaluated on.
    """

    first: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_A")]
    """Folder of a run, RUNS/TASK/METHOD/FINGERPRINT."""
    second: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_B")]
    """Folder of another run."""


def compare(options: CompareOptions) -> None:
    from reports.comparison import compare
    from reports.text.comparison import render

    print(render(compare(options.first, options.second)))
