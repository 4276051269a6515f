"""The table of a task: a row an arm, every figure with its interval, and whether it differs from the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from reports.errors import ReportError
from reports.records import Collection
from reports.run_groups import COSTS, RunGroup, arms
from reports.statistics import LEVEL, Difference, between_seeds, holm


@dataclass(frozen=True)
class Verdict:
    """An arm against the reference in one metric; `p` is corrected, and None where the seeds cannot tell."""

    difference: Difference | None
    p: float | None
    better: bool | None  # None unless the difference is beyond its interval after the correction

    @property
    def text(self) -> str:
        if self.p is None:
            return "cannot tell"
        return "not told apart" if self.better is None else "better" if self.better else "worse"


@dataclass
class Table:
    """`verdicts` by metric and row; the reference has none."""

    task: str
    rows: list[RunGroup]
    metrics: list[str]  # the primary_metric first
    lower_is_better: dict[str, bool]
    reference: RunGroup | None
    verdicts: dict[tuple[str, int], Verdict] = field(default_factory=dict)

    @property
    def primary_metric(self) -> str | None:
        return self.metrics[0] if self.metrics else None


def build(collection: Collection, task: str, by: str | None = None, against: str | None = None) -> Table:
    """The table of `task`. Raises ReportError where it has no runs or where `by` or `against` name nothing."""
    part = collection.of_task(task)
    if not (part.finished or part.failed):
        known = ", ".join(collection.tasks()) or "none yet"
        there = f" ({len(part.unfinished)} unfinished, {len(part.unreadable)} unreadable)"
        raise ReportError(
            f"no finished or failed run of '{task}' in '{collection.folder}'{there}: tasks that have some are {known}"
        )
    metrics, lower = _metrics(part)
    table = Table(task, arms(part.finished, part.failed), metrics, lower, None)
    _order(table, by)
    table.reference, chosen_from = _reference(table, against)
    for metric in metrics:
        _judge(table, metric, chosen_from)
    return table


def _metrics(part: Collection) -> tuple[list[str], dict[str, bool]]:
    """All metrics, the primary_metric of most runs first, then in the order of the records; and their directions."""
    headlines = [run.record.primary_metric for run in part.finished if run.record.primary_metric]
    first = max(sorted(set(headlines)), key=headlines.count) if headlines else None
    figures = {name: figure for run in part.finished for name, figure in run.record.metrics.items()}
    names = sorted(figures, key=lambda name: name != first)  # stable: the records' order otherwise
    return names, {name: figures[name].better == "lower" for name in names}


def _order(table: Table, by: str | None) -> None:
    """Best primary_metric first, or by a size field (rank, ...), a metric, a cost or 'method'; arms without it last."""
    sizes = {arm.size.field for arm in table.rows if arm.size}
    by = by or table.primary_metric or "method"
    if by in sizes:
        order = {id(arm): arm.size.value if arm.size and arm.size.field == by else None for arm in table.rows}
    elif by in table.metrics:
        sign = 1 if table.lower_is_better[by] else -1
        order = {id(arm): sign * mean.value if (mean := arm.mean(by)) else None for arm in table.rows}
    elif by in COSTS:
        order = {id(arm): arm.cost(by) for arm in table.rows}
    elif by == "method":
        order = dict.fromkeys(map(id, table.rows), 0.0)
    else:
        valid = ", ".join(["method", *sorted(sizes), *table.metrics, *COSTS])
        raise ReportError(f"this table cannot be ordered by '{by}': expected one of {valid}")
    table.rows.sort(key=lambda arm: (order[id(arm)] is None, order[id(arm)] or 0.0))


def _reference(table: Table, against: str | None) -> tuple[RunGroup | None, list[RunGroup]]:
    """The arm that others are held against, and all arms that it was chosen from by their figures.

    `against` is a method, or METHOD:SIZE; without it the best arm is taken.
    """
    able = [arm for arm in table.rows if table.primary_metric and arm.values(table.primary_metric)]
    if against is not None:
        able = [
            arm for arm in able if against in (arm.method, f"{arm.method}:{arm.label.removeprefix(arm.method).strip()}")
        ]
        if not able:
            valid = ", ".join(sorted({arm.method for arm in table.rows}))
            raise ReportError(f"no finished arm is called '{against}': expected METHOD or METHOD:SIZE, of {valid}")
    if not able:
        return None, []
    return min(able, key=lambda arm: _badness(table, arm)), able


def _badness(table: Table, arm: RunGroup) -> float:
    mean = arm.mean(table.primary_metric or "")
    assert mean is not None
    return mean.value if table.lower_is_better[table.primary_metric or ""] else -mean.value


def _judge(table: Table, metric: str, chosen_from: Sequence[RunGroup]) -> None:
    """Verdicts of all arms against the reference, Holm-corrected over every pair that might have been compared.

    A reference chosen because it came out best has luck in it: so pairs of all that it was chosen from are counted,
    not just those shown.
    """
    if table.reference is None:
        return
    indices = {id(arm): index for index, arm in enumerate(table.rows)}
    candidates, reference = {indices[id(arm)] for arm in chosen_from}, indices[id(table.reference)]
    with_values = [i for i, arm in enumerate(table.rows) if arm.values(metric)]
    pairs = [pair for pair in combinations(with_values, 2) if candidates & set(pair)]
    tests = [between_seeds(table.rows[i].values(metric), table.rows[j].values(metric)) for i, j in pairs]
    for (i, j), test, p in zip(pairs, tests, holm([t.p if t else None for t in tests]), strict=True):
        if reference in (i, j):
            if test and i == reference:
                test = Difference(-test.value, -test.high, -test.low, test.p)
            better = None
            if test is not None and p is not None and p < 1 - LEVEL:
                better = (test.value < 0) == table.lower_is_better[metric]
            table.verdicts[metric, j if i == reference else i] = Verdict(test, p, better)
