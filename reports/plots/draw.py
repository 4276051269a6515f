"""Draw all plots of all tasks, as SVG and PNG; drawing them again gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
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
from reports.plots.pareto import pareto, pareto_key
from reports.plots.sample_grid import montage
from reports.records import Collection
from reports.run_groups import by_method
from reports.tables import Table, known_metrics
from reports.text import notes, verdicts
from reports.text.costs import cost_notes
from reports.text.format import range_text

OF_METRIC: dict[str, Callable] = {"rank": size_curves, "pareto": pareto}
FILE_NAMES = {"rank": "size"}  # where a plot's file has another name than its kind
KINDS = (*OF_METRIC, "loss", "intrinsic", "costs", "samples")
Drawn = tuple[str, Figure, list[str]]  # the name of the file, the figure, the notes below it


def draw(
    collection: Collection,
    out: Path,
    only: Sequence[str] = (),
    tasks: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> Iterator[Path]:
    """Yield each file when it is written: OUT/<task>/{size,pareto}-<metric>, loss, intrinsic-<hash>, costs, samples.

    `only` names kinds of plots, `tasks` and `metrics` what they show; by default all. Raises ReportError for a name
    that does not exist.
    """
    kinds = [_known("kind of plot", name, KINDS) for name in only] or [*KINDS]
    for task in [_known("task", name, collection.tasks()) for name in tasks] or collection.tasks():
        table, part, folder = tables.build(collection, task), collection.of_task(task), out / style.slug(task)
        for name, figure, lines in figures(table, part, kinds, known_metrics(metrics, table.metrics)):
            yield from style.save(figure, folder / name, lines)
        if "samples" in kinds:
            grid = montage(by_method(table.rows), folder / "samples.png")
            yield from [grid] if grid else []


def _known(what: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        close = get_close_matches(name, known, 1)
        meant = f" (did you mean '{close[0]}'?)" if close else ""
        raise ReportError(f"unknown {what} '{name}'{meant}: expected some of {', '.join(known)}")
    return name


def figures(table: Table, part: Collection, kinds: Sequence[str], metrics: Sequence[str] = ()) -> Iterator[Drawn]:
    """The plots of one task of these kinds, except the samples; `metrics` are all if none is given."""
    for metric in metrics or table.metrics:
        for kind in (kind for kind in OF_METRIC if kind in kinds):
            figure = _titled(lambda kind=kind, metric=metric: OF_METRIC[kind](table.rows, metric), table.task)
            if figure is not None:
                yield (
                    f"{FILE_NAMES.get(kind, kind)}-{style.slug(metric)}",
                    figure,
                    [
                        *([pareto_key(table.rows, metric)] if kind == "pareto" else []),
                        *_notes(table, part, metric),
                    ],
                )
    if "loss" in kinds and (figure := _titled(lambda: loss_curves(table.rows), table.task)):
        yield "loss", figure, _notes(table, part, None)
    for path, record in part.intrinsic.items() if "intrinsic" in kinds else ():
        figure = _titled(lambda record=record: crossings(record), record.title)
        if figure is not None:
            yield path.stem, figure, [f"{table.task}.", *record.notes]
    if "costs" in kinds:
        with suppress(ReportError):  # no run of the task has finished
            yield from _costs(build_cost_table(part.folder, table.task))


def draw_costs(table: CostTable, folder: Path) -> list[Path]:
    """The files written: FOLDER/costs, or none if the records hold too little."""
    return [file for name, figure, lines in _costs(table) for file in style.save(figure, folder / name, lines)]


def _costs(table: CostTable) -> Iterator[Drawn]:
    figure = _titled(lambda: cost_bars(table), f"{table.task}: costs")
    if figure is not None:
        yield "costs", figure, cost_notes(table)


def _titled(plot: Callable[[], Figure | None], title: str) -> Figure | None:
    with style.style_context():
        figure = plot()
        if figure is not None:
            figure.suptitle(style.escape(title), x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


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


LOSS_NOTE = "One line per run: colour by method, a darker shade for a larger size, dashes by the other settings."


def _seeds_note(table: Table) -> str:
    seeds = sorted({len(group.finished) for group in table.rows if group.finished})
    shown = range_text(seeds[0], seeds[-1]) if seeds else "no"
    if seeds[-1:] > [1]:
        return f"Seeds per point: {shown}; bars are 95 % intervals of the mean over seeds. {CUT_NOTE}"
    return f"Seeds per point: {shown}; bars are 95 % intervals over items; noise between seeds is unknown. {CUT_NOTE}"


CUT_NOTE = "A triangle at the edge marks an interval that goes on outside."
