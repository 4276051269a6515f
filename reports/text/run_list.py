"""The runs of a folder under short names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tabulate import tabulate

from reports.records import Collection, Run
from reports.run_groups import size_text
from reports.text.format import one_line
from reports.text.notes import counts
from reports.text.table import figure_text


def short_names(runs: Sequence[Run]) -> list[str]:
    """METHOD-SIZE-sSEED of each run of one task; runs that share it get as much of their fingerprint as they need."""
    plain = [
        "-".join(filter(None, (run.record.method, size_text(run.record.size), f"s{run.record.seed}"))) for run in runs
    ]
    same: dict[str, list[str]] = defaultdict(list)
    for name, run in zip(plain, runs, strict=True):
        same[name].append(run.folder.name)
    return [
        name if len(same[name]) == 1 else f"{name}-{_unique(run.folder.name, same[name])}"
        for name, run in zip(plain, runs, strict=True)
    ]


def _unique(fingerprint: str, others: Sequence[str]) -> str:
    """The shortest start of the fingerprint, of at least four characters, that no other one has."""
    lengths = range(4, len(fingerprint))
    starts = (fingerprint[:n] for n in lengths if sum(other.startswith(fingerprint[:n]) for other in others) == 1)
    return next(starts, fingerprint)


def render(collection: Collection, tasks: Sequence[str] = ()) -> str:
    """One line per finished or failed run, and the folders of unfinished ones. Raises ReportError for unknown tasks."""
    rows = []
    for task in collection.chosen_tasks(tasks):
        part = collection.of_task(task)
        runs = sorted([*part.finished, *part.failed], key=_order)
        for name, run in zip(short_names(runs), runs, strict=True):
            rows.append([task, name, run.record.status, _primary(run), str(run.folder)])
        rows += [[task, "", "unfinished", "", str(path)] for path in part.unfinished]
    cells = [[one_line(cell) for cell in row] for row in rows]
    table = tabulate(cells, ["task", "run", "status", "primary metric", "folder"], disable_numparse=True)
    return "\n".join([table, *map(one_line, counts(collection))])


def _order(run: Run) -> tuple[str, float, int, str]:
    return run.record.method, run.record.size.value if run.record.size else 0.0, run.record.seed, run.folder.name


def _primary(run: Run) -> str:
    name = run.record.primary_metric
    figure = run.record.metrics.get(name) if name else None
    return f"{name} {figure_text(figure)}" if figure else run.record.reason or ""
