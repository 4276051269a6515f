"""`reports costs`: what each method costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reports.commands.arguments import Folder, Format, Task, report_files


@dataclass(frozen=True)
class CostsOptions:
    """Show what each method costs on one task.

    Memory, bytes, operations, time, latency, switching between adapters; see `python -m experiments.costs`.
    """

    task: Task
    """The task whose costs are shown."""
    runs: Folder = Path("runs")
    """Folder of the runs and cost records."""
    format: Format = "terminal"
    """Output format; csv has all numbers, unrounded."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Also draw the costs there, as SVG and PNG."""


def costs(options: CostsOptions) -> None:
    from reports.costs.table import build_cost_table
    from reports.text.costs import render

    built = build_cost_table(options.runs, options.task)
    print(render(built, options.format), end="")
    if options.output is not None:
        from reports.plots.draw import draw_costs

        report_files(draw_costs(built, options.output), options.output)
