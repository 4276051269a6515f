"""`reports peak`, `grid`, `effects` and `score`: a metric over the settings of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from reports.commands.arguments import Folder, Task

if TYPE_CHECKING:
    from reports.tables import Table


@dataclass(frozen=True)
class PeakOptions:
    """Show where a metric is best over one setting.

    For each method and size: the best mean over seeds, the setting's value there and the means beside it. With
    --over task.pairs --metric bits_per_parameter the runs of `facts` give the capacity of each adapter.
    """

    task: Task
    """The task whose runs are shown."""
    over: Annotated[str, tyro.conf.arg(metavar="SETTING")]
    """The setting, by its dotted name (task.pairs, train.steps, train.learning_rate, ...)."""
    runs: Folder = Path("runs")
    """Folder of the runs."""
    metric: str | None = None
    """The metric. Default: the task's primary one."""
    format: Literal["terminal", "md"] = "terminal"
    """Output format."""


def peak(options: PeakOptions) -> None:
    from reports.peaks import render

    table = _table_of(options)
    style = {"terminal": "simple", "md": "github"}[options.format]
    print(render(table, options.over, table.metrics[0], style))


@dataclass(frozen=True)
class GridOptions:
    """Show a metric over two settings.

    One table for each method and its other settings, the best cell in asterisks; `plots --only heatmap` draws them.
    """

    task: Task
    """The task whose runs are shown."""
    over: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SETTING")] = ()
    """The settings of the columns and of the rows. Default: the learning rate and the size."""
    runs: Folder = Path("runs")
    """Folder of the runs."""
    metric: str | None = None
    """The metric. Default: the task's primary one."""
    format: Literal["terminal", "md", "latex"] = "terminal"
    """Output format."""


def grid(options: GridOptions) -> None:
    from reports.sweeps.grid import render_grids

    print(render_grids(_table_of(options), options.over, options.format), end="")


@dataclass(frozen=True)
class EffectsOptions:
    """Show the main effects of a sweep's settings on a metric.

    An additive linear model per method: each setting's share of the variance, its F test, and the mean at each value.
    """

    task: Task
    """The task whose runs are shown."""
    runs: Folder = Path("runs")
    """Folder of the runs."""
    metric: str | None = None
    """The metric. Default: the task's primary one."""
    format: Literal["terminal", "md", "latex"] = "terminal"
    """Output format."""


def effects(options: EffectsOptions) -> None:
    from reports.sweeps.main_effects import render_effects

    print(render_effects(_table_of(options), options.format), end="")


@dataclass(frozen=True)
class ScoreOptions:
    """Show one score from quality and costs: PSCP.

    PSCP = P (1 + M_p / C_p)^-b_p (1 + M_f / C_f)^-b_f (1 + M_m / C_m)^-b_m (Belanec et al. 2025, arXiv 2511.21285).
    """

    task: Task
    """The task whose runs are shown."""
    runs: Folder = Path("runs")
    """Folder of the runs."""
    metric: str | None = None
    """The performance P, of which more is better. Default: the task's primary metric."""
    scales: tuple[float, float, float] = (5e8, 10e12, 94e9)
    """C of trained parameters, operations added to inference, and bytes of memory. Default: PEFT-Factory's."""
    exponents: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """b of the same three."""
    format: Literal["terminal", "md", "latex"] = "terminal"
    """Output format."""


def score(options: ScoreOptions) -> None:
    from reports.sweeps.pscp import Penalties, render_scores

    print(render_scores(_table_of(options), Penalties(options.scales, options.exponents), options.format), end="")


def _table_of(options: PeakOptions | GridOptions | EffectsOptions | ScoreOptions) -> Table:
    from reports.records import collect
    from reports.tables import build

    return build(collect(options.runs), options.task, chosen=[options.metric] if options.metric else ())
