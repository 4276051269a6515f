"""Draw all plots of all tasks, as SVG and PNG; drawing them again gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from reports.plots.layers import energy_maps, intruder_maps
from reports.plots.loss import loss_curves
from reports.plots.pareto import against, forgetting, pareto
from reports.plots.quality_curves import quality_curves
from reports.plots.sample_grid import montage
from reports.plots.sweeps.effects import effect_plots
from reports.plots.sweeps.heat_map import heat_maps
from reports.plots.sweeps.held_out import held_out_curves
from reports.plots.sweeps.intruder_scales import intruder_scales
from reports.plots.sweeps.score_bars import score_bars
from reports.plots.sweeps.u_curves import u_curves
from reports.records import Collection
from reports.run_groups import by_method
from reports.tables import Table, known_metrics
from reports.text import notes, verdicts
from reports.text.costs import cost_notes
from reports.text.format import range_text

Drawn = tuple[str, Figure, list[str]]  # the name of the file, the figure, the notes below it
FILE_NAMES = {"rank": "size"}  # where a plot's file has another name than its kind


@dataclass(frozen=True)
class View:
    """What a plot shows: metrics (all if none is given), settings on its axes, another metric or cost beside them."""

    metrics: Sequence[str] = ()
    over: Sequence[str] = ()
    against: str | None = None


def draw(
    collection: Collection,
    out: Path,
    only: Sequence[str] = (),
    tasks: Sequence[str] = (),
    view: View | None = None,
) -> Iterator[Path]:
    """Yield each file when it is written: OUT/<task>/{size,pareto,heatmap}-<metric>, loss, and so on.

    `only` names kinds of plots, `tasks` and the view's metrics what they show; by default all. Raises ReportError for
    a name that does not exist, and for a kind in `only` that no task's runs are enough for.
    """
    view = view or View()
    kinds = [_known("kind of plot", name, KINDS) for name in only] or [*KINDS]
    missing: dict[str, str] = {}
    drawn: set[str] = set()
    for task in [_known("task", name, collection.tasks()) for name in tasks] or collection.tasks():
        table, part, folder = tables.build(collection, task), collection.of_task(task), out / style.slug(task)
        own = replace(view, metrics=known_metrics(view.metrics, table.metrics))
        for kind in kinds:
            try:
                for name, figure, lines in figures(table, part, kind, own):
                    yield from style.save(figure, folder / name, lines)
                    drawn.add(kind)
            except ReportError as reason:
                missing[kind] = str(reason)
        if "samples" in kinds:
            grid = montage(by_method(table.rows), folder / "samples.png")
            yield from [grid] if grid else []
    for kind in (kind for kind in only if kind in missing and kind not in drawn):
        raise ReportError(missing[kind])


def _known(what: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        close = get_close_matches(name, known, 1)
        meant = f" (did you mean '{close[0]}'?)" if close else ""
        raise ReportError(f"unknown {what} '{name}'{meant}: expected some of {', '.join(known)}")
    return name


def figures(table: Table, part: Collection, kind: str, view: View | None = None) -> Iterator[Drawn]:
    """The plots of this kind of one task, without the samples.

    Raises ReportError, with what is missing, if its runs are not enough for it.
    """
    view = view or View()
    if kind in OF_METRIC:
        for metric in view.metrics or _metrics(table, kind):
            if drawn := _of_metric(table, part, kind, metric, view):
                yield drawn
    elif kind in OF_TASK:
        yield from OF_TASK[kind](table, part)


def _metrics(table: Table, kind: str) -> list[str]:
    """By default all of them, or the primary one for plots that are about it."""
    return table.metrics[:1] if kind in OF_PRIMARY else table.metrics


Plotted = Figure | tuple[Figure, list[str]] | None  # with the notes of its own
OF_METRIC: dict[str, Callable[[Table, str, View], Plotted]] = {
    "rank": lambda table, metric, view: size_curves(table.rows, metric),
    "pareto": lambda table, metric, view: (
        against(table.rows, metric, view.against, table.task) if view.against else pareto(table.rows, metric)
    ),
    "forgetting": lambda table, metric, view: forgetting(table.rows, metric, table.task),
    "heatmap": lambda table, metric, view: heat_maps(table, view.over, metric),
    "u-curve": lambda table, metric, view: u_curves(table, view.over[:1], metric),
    "effects": lambda table, metric, view: effect_plots(table, metric),
    "score": lambda table, metric, view: score_bars(table, None, metric),
    "curves": lambda table, metric, view: quality_curves(table, metric),
}
OF_PRIMARY = ("forgetting", "heatmap", "u-curve", "effects", "score", "curves")
COMPARING = ("rank", "pareto")  # plots that say which groups differ
OF_A_PART = ("curves",)  # plots of a part of the items, which say so themselves


def _of_metric(table: Table, part: Collection, kind: str, metric: str, view: View) -> Drawn | None:
    notes_of_plot: list[str] = []

    def plot() -> Figure | None:
        plotted = OF_METRIC[kind](table, metric, view)
        if isinstance(plotted, tuple):
            notes_of_plot.extend(plotted[1])
            return plotted[0]
        return plotted

    figure = _titled(plot, table.task)
    if figure is None:
        return None
    beside = f"-against-{style.slug(view.against)}" if view.against and kind == "pareto" else ""
    name = f"{FILE_NAMES.get(kind, kind)}-{style.slug(metric)}{beside}"
    small_print = _notes(table, part, metric, kind)
    return name, figure, [*notes_of_plot, *small_print]


def _losses(table: Table, part: Collection) -> Iterator[Drawn]:
    with style.style_context():
        plotted = loss_curves(table.rows)
    if plotted and (figure := _titled(lambda: plotted[0], table.task)):
        yield "loss", figure, [plotted[1], *_notes(table, part, None)]


def _with_notes(plot: Callable[[Table], tuple[Figure, list[str]]], name: str) -> Callable[..., Iterator[Drawn]]:
    def drawn(table: Table, part: Collection) -> Iterator[Drawn]:
        lines: list[str] = []

        def figure_of() -> Figure:
            figure, found = plot(table)
            lines.extend(found)
            return figure

        if figure := _titled(figure_of, table.task):
            yield name, figure, [*lines, notes.counts(part)[0]]

    return drawn


def _intrinsic(table: Table, part: Collection) -> Iterator[Drawn]:
    for path, record in part.intrinsic.items():
        figure = _titled(lambda record=record: crossings(record), record.title)
        if figure is not None:
            yield path.stem, figure, [f"{table.task}.", *record.notes]


def draw_costs(table: CostTable, folder: Path) -> list[Path]:
    """The files written: FOLDER/costs, or none if the records hold too little."""
    return [file for name, figure, lines in _costs(table) for file in style.save(figure, folder / name, lines)]


def _costs(table: CostTable) -> Iterator[Drawn]:
    figure = _titled(lambda: cost_bars(table), f"{table.task}: costs")
    if figure is not None:
        yield "costs", figure, cost_notes(table)


OF_TASK: dict[str, Callable[[Table, Collection], Iterator[Drawn]]] = {
    "loss": _losses,
    "held-out": _with_notes(held_out_curves, "held-out"),
    "energy": _with_notes(energy_maps, "energy"),
    "intruders": _with_notes(intruder_maps, "intruders"),
    "intruder-scales": _with_notes(intruder_scales, "intruder-scales"),
    "intrinsic": _intrinsic,
    "costs": lambda table, part: _costs(build_cost_table(part.folder, table.task)),
}
KINDS = (*OF_METRIC, *OF_TASK, "samples")


def _titled(plot: Callable[[], Figure | None], title: str) -> Figure | None:
    with style.style_context():
        figure = plot()
        if figure is not None:
            figure.suptitle(style.escape(title), x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _notes(table: Table, part: Collection, metric: str | None, kind: str = "rank") -> list[str]:
    """The small print: counts of runs, how the metric was measured, the verdicts, and what the plot mixes."""
    metrics = [metric] if metric else []
    counts = notes.counts(part)[0]
    return [
        *(() if kind in OF_A_PART else notes.measured_with(table.rows, metrics)),
        *(() if kind in OF_A_PART else (notes.references_text(table.rows, name) for name in metrics)),
        *(filter(None, (verdicts.on_one_line(table, name) for name in metrics)) if kind in COMPARING else ()),
        f"{counts} {_seeds_note(table, kind)}" if metric else counts,
        *notes.warnings(table.rows, metrics),
    ]


def _seeds_note(table: Table, kind: str) -> str:
    """How many seeds a mean is of; the bars that only some plots have."""
    seeds = sorted({len(group.finished) for group in table.rows if group.finished})
    shown = range_text(seeds[0], seeds[-1]) if seeds else "no"
    if kind != "rank":
        return f"Seeds per mean: {shown}."
    if seeds[-1:] > [1]:
        return f"Seeds per point: {shown}; bars are 95 % intervals of the mean over seeds. {CUT_NOTE}"
    return f"Seeds per point: {shown}; bars are 95 % intervals over items; noise between seeds is unknown. {CUT_NOTE}"


CUT_NOTE = "A triangle at the edge marks an interval that goes on outside."
