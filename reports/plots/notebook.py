"""`reports.plot`: one plot of a folder of runs as a matplotlib figure, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from reports.errors import ReportError
from reports.records import Collection, collect

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(
    kind: str,
    runs: str | Path | Collection = "runs",
    task: str | None = None,
    metric: str | None = None,
    over: Sequence[str] = (),
    against: str | None = None,
) -> Figure:
    """One plot of one task as a `matplotlib.figure.Figure`, which a notebook shows and `savefig` writes.

    `kind` is one of the kinds of `python -m reports plots`:

    - quality: "rank" (the metric over the size), "pareto" (over costs, or over the metric or cost `against`),
      "forgetting" (over the drift);
    - a sweep: "heatmap" (over the two settings in `over`, by default the learning rate and the size), "u-curve" (over
      the one setting in `over`, a line per size), "effects" (main effects of the settings), "score" (PSCP);
    - training: "curves" (quality over steps, of runs with `evaluate_every`), "loss", "held-out" (over steps on a log
      axis, coloured by size);
    - updates: "energy" and "intruders" (by layer and type of matrix), "intruder-scales" (with these scaled);
    - "intrinsic" and "costs".

    `task` may be left out if the runs have one only, `metric` is by default the primary one. The notes that `python -m
    reports plots` prints below the plot are in `reports.table(...).attrs["notes"]`.

    Raises ReportError for an unknown kind, task, metric or setting, and if the runs hold nothing to draw.

    Example::

        from reports import plot

        figure = plot("rank", "runs", "sd-pokemon")
        figure.axes[0].set_ylim(0, 500)
        figure.savefig("rank.pdf")
        plot("heatmap", "runs", "style", "perplexity", over=["train.learning_rate", "adapter.rank"])
    """
    from reports.plots.draw import KINDS, View, figures
    from reports.tables import build, known_metrics

    kinds = [name for name in KINDS if name != "samples"]
    if kind not in kinds:
        close = get_close_matches(kind, kinds, 1)
        meant = f" (did you mean '{close[0]}'?)" if close else ""
        raise ReportError(f"unknown kind of plot '{kind}'{meant}: expected one of {', '.join(kinds)}")
    collection = runs if isinstance(runs, Collection) else collect(runs)
    table = build(collection, _only_task(collection) if task is None else task)
    metrics = known_metrics([metric], table.metrics) if metric else table.metrics[:1]
    view = View(metrics, [over] if isinstance(over, str) else over, against)
    drawn = next(figures(table, collection.of_task(table.task), kind, view), None)
    if drawn is None:
        raise ReportError(
            f"no '{kind}' plot of '{table.task}': its runs in '{collection.folder}' hold too little for it"
        )
    return drawn[1]


def _only_task(collection: Collection) -> str:
    tasks = collection.tasks()
    if len(tasks) != 1:
        raise ReportError(f"'{collection.folder}' has runs of {len(tasks)} tasks ({', '.join(tasks)}): pass task=...")
    return tasks[0]
