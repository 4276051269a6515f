"""The table at the end of a sweep: what varied, what became of the runs, and their primary metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from experiments.records.failures import DIVERGED
from experiments.sweeping.grid import values_of
from experiments.sweeping.jobs import describe_adapter, in_words
from experiments.sweeping.learning_rates import SeedGroup
from experiments.sweeping.runner import runs_of


@dataclass(frozen=True)
class ResultRow:
    """The runs of one setting over its seeds: how many had which outcome, and the primary metric of the finished.

    `better` is "higher" or "lower"; `measured` has the units, sample counts and extractors of the values, mostly one.
    """

    task: str
    method: str
    settings: Mapping[str, Any]
    outcomes: Mapping[str, int]
    metric: str
    better: str
    values: Sequence[float]
    measured: Sequence[str] = ()

    @property
    def value(self) -> float | None:
        return mean(self.values) if self.values else None

    def cells(self, settings: Sequence[str], best: bool, with_metric: bool) -> list[str]:
        """The row's text; its value `with_metric` names the metric."""
        shown = [in_words(self.settings[s]) or "none" if s in self.settings else "" for s in settings]
        runs = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items())
        spread = f" (sd {stdev(self.values):.2g})" if len(self.values) > 1 else ""
        name = f"{self.metric} " if with_metric else ""
        value = "" if self.value is None else f"{name}{self.value:.4g}{spread}{' *' if best else ''}"
        return [self.task, self.method, *shown, runs, value]


def row_of(group: SeedGroup) -> ResultRow:
    """The outcomes of one group; a run whose learning-rate search failed has no record."""
    runs, blocked = runs_of([group])
    records = [*(run.folder.result() for run in runs.values()), *(None for _ in blocked)]
    config = group.configs[0]
    finished = [record for record in records if record is not None and record["status"] == "finished"]
    metric = finished[0]["primary_metric"] if finished else config.task.primary_metric
    figures = [record["metrics"][metric] for record in finished if metric in record["metrics"]]
    return ResultRow(
        config.task.name,
        describe_adapter(config.adapter),
        values_of(config, group.varied),
        Counter(map(outcome_of, records)),
        metric,
        config.task.all_metrics()[metric].better,
        [figure["value"] for figure in figures],
        list(dict.fromkeys(map(_how, figures))),
    )


def _how(figure: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (figure["unit"], f"n={figure['n']}", figure["extractor"])))


def outcome_of(record: Mapping[str, Any] | None) -> str:
    """What became of a run: "finished", "diverged", "failed" for another reason, or "not run"."""
    if record is None:
        return "not run"
    if record["status"] == "finished":
        return "finished"
    return "diverged" if str(record["reason"]).startswith(DIVERGED) else "failed"


def best_of(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The row with the best mean of each task and metric, of those that all seeds finished."""
    complete: dict[tuple[str, str], list[ResultRow]] = {}
    for row in rows:
        if row.values and set(row.outcomes) == {"finished"}:
            complete.setdefault((row.task, row.metric), []).append(row)
    return [max(alike, key=_goodness) for alike in complete.values()]


def _goodness(row: ResultRow) -> float:
    return mean(row.values) if row.better == "higher" else -mean(row.values)


def show_results(groups: Sequence[SeedGroup]) -> None:
    """Print one row per setting of a sweep."""
    from rich.console import Console
    from rich.table import Table

    rows = [row_of(group) for group in groups]
    settings = list(dict.fromkeys(setting for group in groups for setting in group.varied))
    best = best_of(rows)
    names = [setting.replace("_", "-") for setting in settings]
    metrics = list({row.metric: None for row in rows})
    header = f"mean {metrics[0].replace('_', ' ')}" if len(metrics) == 1 else "mean of the primary metric"
    table = Table("task", "method", *names, "runs", header, caption_justify="left")
    notes = [f"{task}: {metric} ({measured})" for task, metric, measured in _measured(rows)]
    if len(rows) > 1 and best:
        notes.append("* the best mean on its task; python -m reports table has intervals and verdicts")
    table.caption = "\n".join(notes) or None
    for row in rows:
        is_best = len(rows) > 1 and any(row is each for each in best)
        table.add_row(*row.cells(settings, is_best, with_metric=len(metrics) > 1))
    Console(highlight=False, markup=False).print(table)


def _measured(rows: Sequence[ResultRow]) -> list[tuple[str, str, str]]:
    """The task, the metric, and what its values were measured with, each once."""
    return list({(row.task, row.metric, measured): None for row in rows for measured in row.measured})
