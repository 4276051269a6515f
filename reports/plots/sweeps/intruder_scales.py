"""What becomes of quality and drift when intruder dimensions are scaled (Shuttleworth et al. 2024, section 6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.errors import ReportError
from reports.plots.legends import add_legend
from reports.plots.pareto import DRIFT
from reports.plots.style import COLOURS, GREY, MARKERS, escape, metric_label, new_figure
from reports.records import Run
from reports.run_groups import distinct_label
from reports.tables import Table
from reports.text.format import count_text

SOURCE = "intruders_of"  # the fact that names the fingerprint of the scaled run
MOST = len(COLOURS)  # runs
NOTE = (
    "Scale 1 is the run itself, 0 removes its intruder dimensions. Dotted: the untuned base. Bars: 95 % intervals over "
    "the items."
)


def intruder_scales(table: Table) -> tuple[Figure, list[str]]:
    """The primary metric and the drift over the scale, a line per scaled run.

    Raises ReportError if no run was scaled by `experiments.truncate --intruder-scales`.
    """
    runs = {run.record.fingerprint: run for group in table.rows for run in group.finished}
    scaled: dict[str, dict[float, Run]] = defaultdict(dict)
    for run in runs.values():
        source, scale = run.record.facts.get(SOURCE), run.record.config.adapter.get("scale")
        if source in runs and isinstance(scale, int | float):
            scaled[source][float(scale)] = run
    if not scaled or table.primary_metric is None:
        raise ReportError(
            f"no run of '{table.task}' has records with scaled intruder dimensions beside it: "
            "`python -m experiments.truncate RUN --intruder-scales 0 0.5` writes them"
        )
    lines = {source: own | {1.0: runs[source]} for source, own in sorted(scaled.items())[:MOST]}
    metrics = [table.primary_metric]
    if DRIFT in table.metrics and table.primary_metric != DRIFT:
        metrics.append(DRIFT)
    figure, panels = new_figure(len(metrics))
    for panel, metric in zip(panels, metrics, strict=True):
        _panel(panel, table, metric, lines, _labels(table, [runs[source] for source in lines]))
    add_legend(figure, panels[:1], above=False)
    left = [f"{count_text(len(scaled) - MOST, 'more run')} not shown."] if len(scaled) > MOST else []
    return figure, [" ".join([NOTE, *left])]


def _labels(table: Table, sources: Sequence[Run]) -> list[str]:
    """Each run's method and size, its seed, and the settings that tell it apart."""
    groups = {run.folder: group for group in table.rows for run in group.finished}
    texts = []
    for run in sources:
        texts.append(escape(f"{distinct_label(groups[run.folder], table.rows)}, seed {run.record.seed}"))
    return texts


def _panel(
    panel: Axes, table: Table, metric: str, lines: Mapping[str, Mapping[float, Run]], labels: Sequence[str]
) -> None:
    for i, (own, label) in enumerate(zip(lines.values(), labels, strict=True)):
        figures = {scale: run.record.metrics[metric] for scale, run in own.items() if metric in run.record.metrics}
        points = sorted(figures.items())
        values = [figure.value for _, figure in points]
        panel.plot([x for x, _ in points], values, color=COLOURS[i], marker=MARKERS[i], markersize=5, label=label)
        for x, figure in points:
            if figure.low is not None and figure.high is not None:
                panel.vlines(x, figure.low, figure.high, COLOURS[i], linewidth=1, alpha=0.6)
    bases = {
        figure.base
        for own in lines.values()
        for run in own.values()
        for figure in [run.record.metrics.get(metric)]
        if figure
    }
    low, high = panel.get_ylim()
    for base in bases:
        if base is not None and low - (high - low) / 4 <= base <= high + (high - low) / 4:
            panel.axhline(base, color=GREY, linestyle=":", linewidth=1)
    panel.set_ylabel(metric_label(metric, table.rows, table.lower_is_better[metric]))
    panel.set_xlabel("scale of the intruder dimensions")
