"""`reports plots`: every kind of plot, as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reports.commands.arguments import Folder, report_files


@dataclass(frozen=True)
class PlotsOptions:
    """Draw all plots, as SVG and PNG.

    Of every task: quality over size, cost and drift; heat maps and curves over settings, and their main effects; curves
    of quality and loss over steps; spectra by layer; intrinsic dimensions, costs and sample grids.
    """

    runs: Folder = Path("runs")
    """Folder of the runs."""
    output: Folder = Path("plots")
    """Folder for the plots."""
    only: tuple[str, ...] = ()
    """Only these kinds. Default: all that the runs are enough for.
    rank: quality over size. pareto: over costs, or over --against. forgetting: over drift. heatmap: over the two
    settings of --over. u-curve: over one setting, a line per size. effects: main effects of the settings. score: PSCP.
    curves: quality over steps, of runs with --train.evaluate-every. loss. held-out: loss over log steps, by size.
    energy: rank of 90 % of the update's energy by layer and type. intruders: intruder dimensions by layer and type.
    intruder-scales: quality and drift with them scaled. intrinsic. costs. samples."""
    tasks: tuple[str, ...] = ()
    """Only these tasks."""
    metrics: tuple[str, ...] = ()
    """Only these metrics. Default: all of rank and pareto, of other kinds the primary one."""
    over: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SETTING")] = ()
    """Settings on the axes of heatmap (columns, rows) and u-curve (the first), by their dotted names or last parts
    (train.learning_rate, rank). Default: the learning rate and the size."""
    against: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The metric or cost on the horizontal axis of pareto. Default: four costs."""


def plots(options: PlotsOptions) -> None:
    from reports.plots.draw import View, draw
    from reports.records import collect

    view = View(options.metrics, options.over, options.against)
    files = draw(collect(options.runs), options.output, options.only, options.tasks, view)
    report_files(files, options.output)
