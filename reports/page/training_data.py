"""The data of the page's charts of a training: losses and quality over steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from reports.plots.loss import KINDS, loss_curve
from reports.quality_curves import best_settings, group_curves, n_text
from reports.run_groups import RunGroup
from reports.tables import Table
from reports.text.table import mean_text

MAX_POINTS = 150  # per loss curve


def losses(groups: Sequence[RunGroup]) -> Iterator[dict[str, Any]]:
    """The curves of each run that has one, with at most `MAX_POINTS` points each."""
    for index, group in enumerate(groups):
        for run in [*group.finished, *group.failed]:
            steps = run.steps()
            curves = {kind: _thinned(*loss_curve(steps, kind)) for kind in KINDS}
            curves = {kind: points for kind, points in curves.items() if len(points[0]) > 1}
            if curves:
                failed = run.record.status == "failed"
                yield {"group": index, "seed": run.record.seed, "failed": failed, "curves": curves}


def quality(table: Table) -> dict[str, list[dict[str, Any]]]:
    """The curves of each metric that runs evaluated along their training."""
    return {name: curves for name in table.metrics if (curves := _quality(table, name))}


def _quality(table: Table, metric: str) -> list[dict[str, Any]]:
    """Of each method and size the curve of the settings that end best; `best` is the index of the best step."""
    rows = {id(group): index for index, group in enumerate(table.rows)}
    curves = best_settings(group_curves(table.rows, metric, table.lower_is_better[metric]))
    return [
        {
            "group": rows[id(curve.group)],
            "steps": [step for step, _ in curve.means],
            "values": [mean.value for _, mean in curve.means],
            "texts": [mean_text(mean) for _, mean in curve.means],
            "best": None if curve.best is None else curve.means.index(curve.best),
            "n": n_text([curve]),
            "seeds": [
                {"failed": failed, "steps": [p.step for p in points], "values": [p.value for p in points]}
                for failed, runs in ((False, curve.finished), (True, curve.failed))
                for _, points in runs
            ],
        }
        for curve in curves
    ]


def _thinned(steps: np.ndarray, values: np.ndarray) -> list[list[float]]:
    """Every n-th point and the last one, five digits each."""
    kept = np.unique(np.linspace(0, len(steps) - 1, min(MAX_POINTS, len(steps))).round().astype(int))
    return [[float(f"{x:.5g}") for x in column[kept]] for column in (steps, values)]
