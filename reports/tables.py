"""The table of a task: one row per group of runs, every figure with its interval, and how it compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from reports.costs.fields import COSTS
from reports.errors import ReportError
from reports.records import Collection
from reports.run_groups import RunGroup, group_runs
from reports.statistics.verdicts import Verdict, Verdicts, planned_reference


@dataclass
class Table:
    """`verdicts` by metric and row index; the reference has none.

    `planned` is the reference that was not chosen for its figures, if the task has one.
    """

    task: str
    rows: list[RunGroup]
    metrics: list[str]  # the primary metric first
    lower_is_better: dict[str, bool]
    reference: RunGroup | None
    planned: RunGroup | None = None
    chosen: bool = False  # whether the metrics were asked for by name
    verdicts: dict[tuple[str, int], Verdict] = field(default_factory=dict)

    @property
    def primary_metric(self) -> str | None:
        return self.metrics[0] if self.metrics else None

    def verdicts_in(self, metric: str) -> Verdicts:
        return Verdicts(self.rows, metric, self.lower_is_better[metric], self.planned)


def build(
    collection: Collection,
    task: str,
    by: str | None = None,
    against: str | None = None,
    chosen: Sequence[str] = (),
) -> Table:
    """The table of `task`, ordered by column `by`, with verdicts against METHOD or METHOD:SIZE.

    `chosen` are the metrics shown, in this order; the first takes the place of the primary metric. By default all are.

    Without `against` the reference is the group that trains all weights, else the best. The verdict on two groups does
    not depend on the view.

    Raises ReportError if the task has no runs, or if `by`, `against` or a chosen metric is not in the table.
    """
    part = collection.of_task(task)
    if not (part.finished or part.failed):
        tasks = ", ".join(collection.tasks())
        known = f"the tasks with runs are {tasks}" if tasks else "no task has one yet"
        others = f" ({len(part.unfinished)} unfinished, {len(part.unreadable)} unreadable)"
        raise ReportError(f"no finished or failed run of '{task}' in '{collection.folder}'{others}; {known}")
    known, lower = _metrics(part)
    shown = known_metrics(chosen, known) or known
    groups = group_runs(part.finished, part.failed)
    table = Table(task, groups, shown, lower, None, planned_reference(groups), bool(chosen))
    _sort(table, by)
    table.reference = _choose_reference(table, against)
    table.verdicts = {(metric, row): verdict for metric in shown for row, verdict in _verdicts(table, metric)}
    return table


def known_metrics(chosen: Sequence[str], known: Sequence[str]) -> list[str]:
    """The chosen metrics without repetitions. Raises ReportError if one is not among the known ones."""
    for name in chosen:
        if name not in known:
            close = get_close_matches(name, known, 1)
            meant = f" (did you mean '{close[0]}'?)" if close else ""
            raise ReportError(f"no run has the metric '{name}'{meant}: expected some of {', '.join(known)}")
    return list(dict.fromkeys(chosen))


def _verdicts(table: Table, metric: str) -> Iterator[tuple[int, Verdict]]:
    verdicts = table.verdicts_in(metric)
    reference = next((i for i, group in enumerate(table.rows) if group is table.reference), None)
    for row in verdicts.groups:
        if reference is not None and row != reference and (verdict := verdicts.of(row, reference)):
            yield row, verdict


def _metrics(part: Collection) -> tuple[list[str], dict[str, bool]]:
    """All metrics, the most frequent primary metric first, then in the order of the records; and their directions.

    Runs of which none finished have those of the untuned base.
    """
    figures = {name: figure for run in part.finished for name, figure in run.record.metrics.items()}
    figures = figures or {name: f for run in part.failed for name, f in run.record.base_figures.items()}
    primary = [run.record.primary_metric for run in part.finished or part.failed]
    first = max(sorted({name for name in primary if name in figures}), key=primary.count, default=None)
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


def _choose_reference(table: Table, against: str | None) -> RunGroup | None:
    """The group that the others are compared with: the planned reference, else the best (of those in `against`)."""
    metric = table.primary_metric
    candidates = [group for group in table.rows if metric and group.values(metric)]
    if against is not None:
        candidates = [group for group in candidates if against in (group.method, _method_and_size(group))]
        if not candidates:
            valid = ", ".join(sorted({group.method for group in table.rows}))
            raise ReportError(f"no finished run matches '{against}': expected METHOD or METHOD:SIZE, of {valid}")
    if not candidates or metric is None:
        return None
    sign = 1 if table.lower_is_better[metric] else -1
    planned = (group for group in candidates if group is table.planned)
    best = min(candidates, key=lambda group: sign * mean.value if (mean := group.mean(metric)) else 0.0)
    return next(planned, best)


def _method_and_size(group: RunGroup) -> str:
    return f"{group.method}:{group.label.removeprefix(group.method).strip()}"
