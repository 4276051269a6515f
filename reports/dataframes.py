"""Run records as pandas DataFrames, for notebooks: one row per run, or one row per group of runs over seeds.

pandas and numpy are imported at the first call, so that `from reports import frame` is instant.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.costs.fields import COST_FIELDS, value_at
from reports.records import Collection, Run, collect
from reports.schema import REFERENCES, FigureRecord

if TYPE_CHECKING:
    import pandas as pd

FIGURE_FIELDS = ("low", "high", *REFERENCES, "n", "unit", "extractor", "better")
MACHINE_FIELDS = {"device": ("device",), "git.commit": ("git", "commit"), "git.dirty": ("git", "dirty")}


def frame(runs: str | Path | Collection = "runs", task: str | None = None) -> pd.DataFrame:
    """One row per finished or failed run below `runs`; with `task`, the runs of that task only.

    Columns, absent if no run has them:

    - identity: `task`, `method`, `size_field`, `size`, `seed`, `status`, `reason`, `source`, `fingerprint`, `folder`;
    - settings: `adapter.rank`, `task.data`, `train.steps`, ...; lists and objects as JSON text;
    - figures: `kid`, and how it was measured: `kid.low`, `kid.high` (95 % interval over items), `kid.base`, `kid.n`,
      `kid.unit`, `kid.extractor`, `kid.better`, ...;
    - costs in plain units (bytes, seconds, floating-point operations per step): `parameters.trainable`,
      `parameters.total`, `adapter_bytes`, `memory.peak_bytes`, `flops.total`, `seconds.train`, `seconds.step_median`,
      `samples_per_second`, ...; all of them are in `reports.costs.fields.COST_FIELDS`;
    - where it ran: `device`, `git.commit`, `git.dirty`.

    Columns of numbers have numeric dtypes; a missing value is NaN. `frame(...).attrs["notes"]` lists what was counted
    and left out, and an unreadable record is a warning. Raises ReportError if there are no runs.

    Example::

        from reports import frame

        runs = frame("runs", "sd-pokemon")
        runs.groupby(["method", "adapter.rank"])["kid"].agg(["mean", "std"])
    """
    import pandas as pd

    from reports.text.notes import counts

    collection = runs if isinstance(runs, Collection) else collect(runs)
    part = collection if task is None else collection.of_task(task)
    if part.unreadable:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in part.unreadable)
        warnings.warn(f"{len(part.unreadable)} records cannot be read and are left out: {reasons}", stacklevel=2)
    result = _typed(pd.DataFrame([_row(run) for run in [*part.finished, *part.failed]]))
    result.attrs["notes"] = counts(part)
    return result


def table(runs: str | Path | Collection, task: str, by: str | None = None, against: str | None = None) -> pd.DataFrame:
    """One row per group of runs that differ only in the seed: the table of `python -m reports table TASK`.

    Columns:

    - the group: `task`, `method`, `size_field`, `size`, `settings` (those that differ between groups), `seeds` (the
      number of finished runs, one per seed), `failed` (the number of failed runs);
    - every metric: its mean over seeds (`kid`), the 95 % interval (`kid.low`, `kid.high`) and the method behind it
      (`kid.how`), the reference values (`kid.base`, ...), `kid.n` (evaluated items), `kid.extractor`, and the
      comparison with the reference: `kid.difference`, `kid.p_holm`, `kid.verdict`, `kid.detectable` (the difference
      found with 80 % power), `kid.equivalent` (within 5 % of the reference's gain); and with several evaluation seeds
      the variances `kid.variance.training`, `.evaluation` and `.items`;
    - costs as means over seeds: `parameters`, `adapter_bytes`, `train_seconds`, `step_seconds`, `total_seconds`,
      `memory_bytes`.

    `by` orders the rows (a size field such as "rank", a metric, a cost or "method"); `against`, METHOD or METHOD:SIZE,
    replaces the reference: the group that trains all weights, or else the best. `table(...).attrs["notes"]` holds the
    notes and warnings of the text table.
    Raises ReportError if the task has no runs, or if `by` or `against` is not in the table.

    Example::

        from reports import table

        table("runs", "sd-pokemon", by="rank")[["method", "size", "kid", "kid.low", "kid.high"]]
    """
    import pandas as pd

    from reports.tables import build
    from reports.text.notes import table_notes
    from reports.text.table import group_rows

    collection = runs if isinstance(runs, Collection) else collect(runs)
    groups = build(collection, task, by, against)
    result = _typed(pd.DataFrame(group_rows(groups)))
    result.attrs["notes"] = table_notes(groups, collection.of_task(task), groups.metrics)
    return result


def _row(run: Run) -> dict[str, Any]:
    record = run.record
    identity = {
        "task": record.task,
        "method": record.method,
        "size_field": record.size.field if record.size else None,
        "size": record.size.value if record.size else None,
        "seed": record.seed,
        "status": record.status,
        "reason": record.reason,
        "source": record.source,
        "fingerprint": record.fingerprint,
        "folder": str(run.folder),
    }
    settings = {f"{part}.{name}": v for part, name, v in _settings(run) if (part, name) not in IDENTITY_SETTINGS}
    figures = {name: value for metric, figure in record.metrics.items() for name, value in _figure(metric, figure)}
    figures |= {f"{metric}.base": figure.value for metric, figure in record.base_figures.items()}
    costs = {name: cost.read(record) for name, cost in COST_FIELDS.items()}
    machine = {name: value_at(record, path) for name, path in MACHINE_FIELDS.items()}
    return identity | {k: v for k, v in (settings | figures | costs | machine).items() if k not in identity}


IDENTITY_SETTINGS = {("adapter", "name"), ("task", "name"), ("train", "seed")}  # columns of their own


def _settings(run: Run) -> Iterator[tuple[str, str, Any]]:
    for part in ("adapter", "task", "train"):
        for name, value in getattr(run.record.config, part).items():
            yield part, name, json.dumps(value) if isinstance(value, list | dict) else value


def _figure(metric: str, figure: FigureRecord) -> Iterator[tuple[str, Any]]:
    yield metric, figure.value
    for name in FIGURE_FIELDS:
        yield f"{metric}.{name}", getattr(figure, name)


def _typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Drop columns without any value, and give columns of numbers and missing values a numeric dtype."""
    rows = rows.dropna(axis="columns", how="all")
    for name in rows.columns:
        values = rows[name].dropna()
        if rows[name].dtype == object and all(type(value) in (int, float) for value in values):
            rows = rows.assign(**{name: rows[name].astype(float)})
    return rows
