"""All plots of all tasks, as SVG and PNG; drawing them again gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from matplotlib.figure import Figure

from reports import costs, notes, tables
from reports.cost_table import notes as cost_notes
from reports.costs import CostTable
from reports.errors import ReportError
from reports.plots import style
from reports.plots.costs import cost_bars
from reports.plots.curves import loss_curves, size_curves
from reports.plots.intrinsic import crossings
from reports.plots.pareto import pareto
from reports.plots.sample_grid import montage
from reports.records import Collection
from reports.run_groups import RunGroup
from reports.tables import Table


def draw(collection: Collection, out: Path) -> list[Path]:
    """The files written: OUT/<task>/size-<metric>, pareto-<metric>, loss, intrinsic-<hash>, costs, samples."""
    files: list[Path] = []
    for task in collection.tasks():
        table = tables.build(collection, task)
        folder = out / style.slug(task)
        with style.style():
            for name, figure, metric in _figures(table):
                files += style.save(figure, folder / name, _notes(table, collection.of_task(task), metric))
            for path, outcome in collection.of_task(task).outcomes.items():
                figure = crossings(outcome)
                _title(figure, outcome.title)
                files += style.save(figure, folder / path.stem, [f"{table.task}.", *outcome.notes])
        with suppress(ReportError):  # no run of the task has finished
            files += draw_costs(costs.build(collection.folder, task), folder)
        grid = montage(sorted(table.rows, key=_by_method), folder / "samples.png")
        files += [grid] if grid else []
    return files


def draw_costs(table: CostTable, folder: Path) -> list[Path]:
    """The files written: FOLDER/costs, or none where the records say too little."""
    with style.style():
        figure = cost_bars(table)
        if figure is None:
            return []
        _title(figure, f"{table.task}: costs")
        return style.save(figure, folder / "costs", cost_notes(table))


def _figures(table: Table) -> Iterator[tuple[str, Figure, str | None]]:
    kinds: dict[str, Callable] = {"size": size_curves, "pareto": pareto}
    for metric in table.metrics:
        for kind, make in kinds.items():
            figure = make(table.rows, metric)
            if figure is not None:
                _title(figure, table.task)
                yield f"{kind}-{style.slug(metric)}", figure, metric
    figure = loss_curves(table.rows)
    if figure is not None:
        _title(figure, table.task)
        yield "loss", figure, None


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(style.plain(text), x=0.01, ha="left", fontsize=11, fontweight="bold")


def _by_method(arm: RunGroup) -> tuple[str, float]:
    return arm.method, arm.size.value if arm.size else 0.0


def _notes(table: Table, part: Collection, metric: str | None) -> list[str]:
    """The small print: what was counted and measured with, and what is mixed."""
    metrics = [metric] if metric else []
    seeds = sorted({len(arm.finished) for arm in table.rows if arm.finished})
    span = " to ".join(str(n) for n in dict.fromkeys([*seeds[:1], *seeds[-1:]])) or "no"
    interval = (
        "95 % intervals of the mean over seeds" if seeds[-1:] > [1] else "nothing is known of the noise between seeds"
    )
    return [
        *notes.measured_with(table.rows, metrics),
        *(notes.held_against(table.rows, name) for name in metrics),
        notes.counts(part)[0] + (f" Seeds a point: {span}; {interval}." if metric else " A line a run."),
        *notes.warnings(table.rows, metrics),
    ]
