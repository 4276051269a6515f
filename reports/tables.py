"""The table of a task: one row per group of runs, every figure with its interval, and how it compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from reports.cost_fields import COSTS
from reports.errors import ReportError
from reports.records import Collection
from reports.run_groups import RunGroup, group_runs
from reports.statistics import LEVEL, Difference, between_seeds, holm


@dataclass(frozen=True)
class Verdict:
    """A group compared with the reference in one metric; `p` is corrected, and None if the seeds cannot tell."""

    difference: Difference | None
    p: float | None
    better: bool | None  # None unless the difference is significant after the correction

    @property
    def text(self) -> str:
        if self.p is None:
            return "cannot tell"
        return "not significant" if self.better is None else "better" if self.better else "worse"


@dataclass
class Table:
    """`verdicts` by metric and row index; the reference has none."""

    task: str
    rows: list[RunGroup]
    metrics: list[str]  # the primary metric first
    lower_is_better: dict[str, bool]
    reference: RunGroup | None
    verdicts: dict[tuple[str, int], Verdict] = field(default_factory=dict)

    @property
    def primary_metric(self) -> str | None:
        return self.metrics[0] if self.metrics else None


def build(collection: Collection, task: str, by: str | None = None, against: str | None = None) -> Table:
    """The table of `task`, ordered by column `by`, with verdicts against METHOD or METHOD:SIZE.

    Raises ReportError if the task has no runs, or if `by` or `against` is not in the table.
    """
    part = collection.of_task(task)
    if not (part.finished or part.failed):
        tasks = ", ".join(collection.tasks())
        known = f"the tasks with runs are {tasks}" if tasks else "no task has one yet"
        others = f" ({len(part.unfinished)} unfinished, {len(part.unreadable)} unreadable)"
        raise ReportError(f"no finished or failed run of '{task}' in '{collection.folder}'{others}; {known}")
    metrics, lower = _metrics(part)
    table = Table(task, group_runs(part.finished, part.failed), metrics, lower, None)
    _sort(table, by)
    table.reference, candidates = _choose_reference(table, against)
    for metric in metrics:
        _compare(table, metric, candidates)
    return table


def _metrics(part: Collection) -> tuple[list[str], dict[str, bool]]:
    """All metrics, the most frequent primary metric first, then in the order of the records; and their directions."""
    primary = [run.record.primary_metric for run in part.finished if run.record.primary_metric]
    first = max(sorted(set(primary)), key=primary.count) if primary else None
    figures = {name: figure for run in part.finished for name, figure in run.record.metrics.items()}
    names = sorted(figures, key=lambda name: name != first)  # stable: otherwise in the order of the records
    return names, {name: figures[name].better == "lower" for name in names}


def _sort(table: Table, by: str | None) -> None:
    """Sort rows by a size field (rank, ...), a metric (best first, the default), a cost or 'method'; missing last."""
    key = _sort_key(table, by or table.primary_metric or "method")
    keys = {id(group): key(group) for group in table.rows}
    table.rows.sort(key=lambda group: (keys[id(group)] is None, keys[id(group)] or 0.0))


def _sort_key(table: Table, by: str) -> Callable[[RunGroup], float | None]:
    sizes = {group.size.field for group in table.rows if group.size}
    if by in sizes:
        return lambda group: group.size.value if group.size and group.size.field == by else None
    if by in table.metrics:
        sign = 1 if table.lower_is_better[by] else -1
        return lambda group: sign * mean.value if (mean := group.mean(by)) else None
    if by in COSTS:
        return lambda group: group.cost(by)
    if by == "method":
        return lambda group: 0.0  # the groups are in this order
    valid = ", ".join(["method", *sorted(sizes), *table.metrics, *COSTS])
    raise ReportError(f"cannot order this table by '{by}': expected one of {valid}")


def _choose_reference(table: Table, against: str | None) -> tuple[RunGroup | None, list[RunGroup]]:
    """The group that the others are compared with, and the candidates from which its figures selected it."""
    metric = table.primary_metric
    candidates = [group for group in table.rows if metric and group.values(metric)]
    if against is not None:
        candidates = [group for group in candidates if against in (group.method, _method_and_size(group))]
        if not candidates:
            valid = ", ".join(sorted({group.method for group in table.rows}))
            raise ReportError(f"no finished run matches '{against}': expected METHOD or METHOD:SIZE, of {valid}")
    if not candidates or metric is None:
        return None, []
    sign = 1 if table.lower_is_better[metric] else -1
    return min(candidates, key=lambda group: sign * mean.value if (mean := group.mean(metric)) else 0.0), candidates


def _method_and_size(group: RunGroup) -> str:
    return f"{group.method}:{group.label.removeprefix(group.method).strip()}"


def _compare(table: Table, metric: str, candidates: Sequence[RunGroup]) -> None:
    """Verdicts of all groups against the reference, Holm-corrected over every pair that might have been compared.

    A reference chosen for its figures is partly lucky. So the correction counts the pairs of every candidate, not only
    the pairs shown.
    """
    if table.reference is None:
        return
    indices = {id(group): index for index, group in enumerate(table.rows)}
    chosen, reference = {indices[id(group)] for group in candidates}, indices[id(table.reference)]
    with_values = [i for i, group in enumerate(table.rows) if group.values(metric)]
    pairs = [pair for pair in combinations(with_values, 2) if chosen & set(pair)]
    tests = [between_seeds(table.rows[i].values(metric), table.rows[j].values(metric)) for i, j in pairs]
    for (i, j), test, p in zip(pairs, tests, holm([t.p if t else None for t in tests]), strict=True):
        if reference in (i, j):
            other, difference = (j, _negate(test)) if i == reference else (i, test)
            table.verdicts[metric, other] = _verdict(difference, p, table.lower_is_better[metric])


def _negate(difference: Difference | None) -> Difference | None:
    if difference is None:
        return None
    return Difference(-difference.value, -difference.high, -difference.low, difference.p)


def _verdict(difference: Difference | None, p: float | None, lower_is_better: bool) -> Verdict:
    if difference is None or p is None or p >= 1 - LEVEL:
        return Verdict(difference, p, None)
    return Verdict(difference, p, (difference.value < 0) == lower_is_better)
