"""Draw all plots of all tasks, as SVG and PNG; drawing them again gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from matplotlib.figure import Figure

from reports import tables
from reports.costs.table import CostTable, build_cost_table
from reports.errors import ReportError
from reports.plots import style
from reports.plots.costs import cost_bars
from reports.plots.curves import size_curves
from reports.plots.intrinsic import crossings
from reports.plots.loss import loss_curves
from reports.plots.pareto import pareto
from reports.plots.sample_grid import montage
from reports.records import Collection
from reports.run_groups import by_method
from reports.tables import Table
from reports.text import notes, verdicts
from reports.text.costs import cost_notes
from reports.text.format import range_text


def draw(collection: Collection, out: Path) -> Iterator[Path]:
    """Yield each file when it is written: OUT/<task>/{size,pareto}-<metric>, loss, intrinsic-<hash>, costs, samples."""
    for task in collection.tasks():
        table = tables.build(collection, task)
        folder = out / style.slug(task)
        for name, figure, lines in _figures(table, collection.of_task(task)):
            yield from style.save(figure, folder / name, lines)
        with suppress(ReportError):  # no run of the task has finished
            yield from draw_costs(build_cost_table(collection.folder, task), folder)
        grid = montage(by_method(table.rows), folder / "samples.png")
        yield from [grid] if grid else []


def draw_costs(table: CostTable, folder: Path) -> list[Path]:
    """The files written: FOLDER/costs, or none if the records hold too little."""
    with style.style_context():
        figure = cost_bars(table)
        if figure is None:
            return []
        _add_title(figure, f"{table.task}: costs")
    return style.save(figure, folder / "costs", cost_notes(table))


def _figures(table: Table, part: Collection) -> Iterator[tuple[str, Figure, list[str]]]:
    """The name, the figure and the notes of every plot of one task except its costs."""
    kinds: dict[str, Callable] = {"size": size_curves, "pareto": pareto}
    for metric in table.metrics:
        for kind, plot in kinds.items():
            figure = _titled(lambda plot=plot, metric=metric: plot(table.rows, metric), table.task)
            if figure is not None:
                yield f"{kind}-{style.slug(metric)}", figure, _notes(table, part, metric)
    figure = _titled(lambda: loss_curves(table.rows), table.task)
    if figure is not None:
        yield "loss", figure, _notes(table, part, None)
    for path, record in part.intrinsic.items():
        figure = _titled(lambda record=record: crossings(record), record.title)
        if figure is not None:
            yield path.stem, figure, [f"{table.task}.", *record.notes]


def _titled(plot: Callable[[], Figure | None], title: str) -> Figure | None:
    with style.style_context():
        figure = plot()
        if figure is not None:
            _add_title(figure, title)
    return figure


def _add_title(figure: Figure, text: str) -> None:
    figure.suptitle(style.escape(text), x=0.01, ha="left", fontsize=11, fontweight="bold")


def _notes(table: Table, part: Collection, metric: str | None) -> list[str]:
    """The small print: counts of runs, how the metric was measured, and what the plot mixes."""
    metrics = [metric] if metric else []
    counts = notes.counts(part)[0]
    return [
        *notes.measured_with(table.rows, metrics),
        *(notes.references_text(table.rows, name) for name in metrics),
        *filter(None, (verdicts.on_one_line(table, name) for name in metrics)),
        f"{counts} {_seeds_note(table) if metric else LOSS_NOTE}",
        *notes.warnings(table.rows, metrics),
    ]


LOSS_NOTE = "One line per run, coloured by method; a stronger shade is a larger size."


def _seeds_note(table: Table) -> str:
    seeds = sorted({len(group.finished) for group in table.rows if group.finished})
    shown = range_text(seeds[0], seeds[-1]) if seeds else "no"
    if seeds[-1:] > [1]:
        return f"Seeds per point: {shown}; bars are 95 % intervals of the mean over seeds; long ones may be cut off."
    return f"Seeds per point: {shown}; bars are 95 % intervals over items; the noise between seeds is unknown."
