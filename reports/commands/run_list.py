"""`reports list`: runs under short names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reports.commands.arguments import Folder


@dataclass(frozen=True)
class ListOptions:
    """List runs under short names.

    One line per run: its name (METHOD-SIZE-sSEED, with the start of its fingerprint where two runs share that), status,
    primary metric and folder, which the other commands take.
    """

    runs: Folder = Path("runs")
    """Folder of the runs."""
    tasks: tuple[str, ...] = ()
    """Only these tasks."""


def list_runs(options: ListOptions) -> None:
    from reports.records import collect
    from reports.text.run_list import render

    print(render(collect(options.runs), options.tasks))
