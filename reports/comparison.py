"""Compare two runs: the two trained models on shared items, and their methods over seeds."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reports.errors import ReportError
from reports.records import Run, collect, read_run
from reports.statistics.corpus_scores import CORPUS_SCORES
from reports.statistics.items import Difference, paired_on_items, paired_on_scores
from reports.statistics.seeds import LEVEL, holm
from reports.statistics.verdicts import Verdict
from reports.tables import Table, build

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ItemComparison:
    """One per-item column or corpus score: its two values and their difference, first minus second.

    `p` is Holm-corrected.
    """

    column: str
    n: int
    first: float
    second: float
    difference: Difference
    p: float
    lower_is_better: bool | None  # None if the column is not a metric of the record

    @property
    def verdict(self) -> str:
        if self.p >= 1 - LEVEL:
            return "not significant"
        if self.lower_is_better is None:
            return "differs"
        return "A better" if (self.difference.value < 0) == self.lower_is_better else "B better"


@dataclass(frozen=True)
class MethodComparison:
    """The groups of two runs in their task's table, with the table's verdict on them by metric."""

    table: Table
    group: int
    reference: int

    @property
    def verdicts(self) -> dict[str, Verdict]:
        found = {name: self.table.verdicts_in(name).of(self.group, self.reference) for name in self.table.metrics}
        return {name: verdict for name, verdict in found.items() if verdict is not None}


@dataclass(frozen=True)
class Comparison:
    """Two runs, compared on the `shared` of their items; `methods` says why if there is no comparison over seeds."""

    runs: tuple[Run, Run]
    shared: int
    left_out: int  # items of a run that the other lacks
    items: list[ItemComparison]
    methods: MethodComparison | str


def compare(first: Path, second: Path) -> Comparison:
    """Compare two run folders. Raises ReportError if they cannot be compared."""
    runs = read_run(first), read_run(second)
    check_comparable(*runs)
    items = runs[0].items(), runs[1].items()
    shared = items[0].index.intersection(items[1].index)
    if shared.empty:
        raise ReportError(
            "the two runs have no item in common; compare runs with the same evaluation settings. "
            f"'{first}' has items such as {items[0].index[0]!r}, '{second}' such as {items[1].index[0]!r}"
        )
    paired = pair(runs, (items[0].loc[shared], items[1].loc[shared]))
    left_out = max(len(table) - len(shared) for table in items)
    return Comparison(runs, len(shared), left_out, paired, compare_methods(*runs))


def check_comparable(first: Run, second: Run) -> None:
    for run in (first, second):
        if run.record.status != "finished":
            raise ReportError(f"'{run.folder}' failed ({run.record.reason}): only finished runs can be compared")
    if first.record.task != second.record.task:
        raise ReportError(
            f"the runs have different tasks, '{first.record.task}' and '{second.record.task}': pass runs of one task"
        )


def compare_methods(first: Run, second: Run) -> MethodComparison | str:
    """The table's comparison of the runs' groups, or why there is none."""
    roots = {_runs_folder(run) for run in (first, second)}
    root = roots.pop()
    if roots or root is None:
        return "the two runs do not lie in one folder RUNS/TASK/METHOD/FINGERPRINT, so there are no seeds to compare"
    table = build(collect(root), first.record.task)
    places = [_row_of(table, run) for run in (first, second)]
    if places[0] == places[1]:
        return "both runs belong to one method with the same settings"
    if table.rows[places[0]] is table.planned:
        places.reverse()
    return MethodComparison(table, *places)


def _runs_folder(run: Run) -> Path | None:
    folder = run.folder.resolve()
    return folder.parents[2] if folder.parent.parent.name == run.record.task else None


def _row_of(table: Table, run: Run) -> int:
    folder = run.folder.resolve()
    members = ([*group.finished, *group.repeated] for group in table.rows)
    return next(i for i, runs in enumerate(members) if folder in [member.folder.resolve() for member in runs])


def pair(runs: tuple[Run, Run], items: tuple[pd.DataFrame, pd.DataFrame]) -> list[ItemComparison]:
    """Compare every corpus score, and every numeric column that both item tables have; correct for their number.

    A column that is not a metric and has the same values in both tables is left out: it describes the items, as their
    lengths do.
    """
    metrics = runs[0].record.metrics
    found = [*_corpus_scores(items), *_columns(items, metrics)]
    corrected = holm([difference.p for *_, difference in found])
    return [
        ItemComparison(
            name, n, a, b, difference, p or 0.0, metrics[name].better == "lower" if name in metrics else None
        )
        for (name, n, a, b, difference), p in zip(found, corrected, strict=True)
    ]


Compared = tuple[str, int, float, float, Difference]  # name, n, both values, first minus second


def _corpus_scores(items: tuple[pd.DataFrame, pd.DataFrame]) -> Iterator[Compared]:
    """The corpus scores whose per-item statistics both tables have."""
    for name, score in CORPUS_SCORES.items():
        first, second = (score.statistics(table) for table in items)
        if first is not None and second is not None and len(first) > 1:
            a, b = (float(score.of(part.sum(0, keepdims=True))[0]) for part in (first, second))
            yield name, len(first), a, b, paired_on_scores(score.of, first, second)


def _columns(items: tuple[pd.DataFrame, pd.DataFrame], metrics: Container[str]) -> Iterator[Compared]:
    import numpy as np
    from pandas.api.types import is_numeric_dtype

    statistics = {column for score in CORPUS_SCORES.values() for column in score.columns}
    prompts = items[0]["prompt"].astype(str).to_numpy() if "prompt" in items[0] else None
    for column in items[0].columns.intersection(items[1].columns):
        if column in statistics or not all(is_numeric_dtype(table[column]) for table in items):
            continue
        values = np.array([table[column].to_numpy(float, na_value=np.nan) for table in items])  # (2, n)
        if column not in metrics and np.array_equal(*values, equal_nan=True):
            continue
        finite = np.isfinite(values).all(0)
        difference = paired_on_items(*values, clusters=prompts)
        if difference is not None:
            yield str(column), int(finite.sum()), *values[:, finite].mean(1).tolist(), difference
