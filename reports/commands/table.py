"""`reports table`: methods and sizes on one task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reports.commands.arguments import Folder, Format, Task


@dataclass(frozen=True)
class TableOptions:
    """Compare methods and sizes on one task, with intervals over seeds."""

    task: Task
    """The task whose runs are shown."""
    runs: Folder = Path("runs")
    """Folder of the runs."""
    by: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """Order by a size field (such as rank), a metric, a cost, or "method". Default: the primary metric, best first."""
    against: Annotated[str | None, tyro.conf.arg(metavar="METHOD[:SIZE]")] = None
    """Compare with this method. Default: the one that trains all weights, or else the best."""
    metrics: tuple[str, ...] = ()
    """Show these metrics, in this order; the first one carries the comparison. Default: all, the primary one first."""
    format: Format = "terminal"
    """Output format; csv has all numbers, unrounded."""


def table(options: TableOptions) -> None:
    from reports.records import collect
    from reports.tables import build
    from reports.text.table import render

    collection = collect(options.runs)
    built = build(collection, options.task, options.by, options.against, options.metrics)
    print(render(built, collection.of_task(options.task), options.format), end="")
