"""Reference values of a metric: the untuned base, real data against real, and others that runs record beside a figure.

A value belongs to one evaluation: data, sampling, extractor and number of items. It is averaged over the runs of one
evaluation; values of different evaluations are all shown, each with the settings that tell its evaluation apart.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.records import Run
from reports.run_groups import CONTENT, RunGroup, differing_settings, settings_of, settings_text
from reports.schema import REFERENCES

ROUNDING = 1e-6  # relative; machines differ by less


@dataclass(frozen=True)
class Reference:
    """One reference value; `settings` are those of its evaluation, empty if all runs have the same value."""

    kind: str  # of REFERENCES
    value: float
    settings: str = ""


def references(groups: Sequence[RunGroup], metric: str) -> list[Reference]:
    """The reference values of a metric, those of one kind next to each other and in rising order."""
    return [reference for kind in REFERENCES for reference in _of_kind(groups, metric, kind)]


def _of_kind(groups: Sequence[RunGroup], metric: str, kind: str) -> list[Reference]:
    evaluations: dict[str, dict[str, Any]] = {}
    values: dict[str, list[float]] = defaultdict(list)
    for run in (run for group in groups for run in (*group.finished, *group.failed)):
        for value, evaluation in _measured(run, metric, kind):
            key = json.dumps(evaluation, sort_keys=True, default=str)
            evaluations[key] = evaluation
            values[key].append(value)
    means = sorted((sum(own) / len(own), key) for key, own in values.items())
    distinct: list[tuple[float, list[dict[str, Any]]]] = []
    for mean, key in means:
        if not distinct or mean - distinct[-1][0] > ROUNDING * max(abs(mean), abs(distinct[-1][0])):
            distinct.append((mean, []))
        distinct[-1][1].append(evaluations[key])
    if len(distinct) == 1:
        return [Reference(kind, distinct[0][0])]
    shown = differing_settings(evaluations.values())
    return [Reference(kind, value, _settings_text(own, shown)) for value, own in distinct]


def _measured(run: Run, metric: str, kind: str) -> Iterator[tuple[float, dict[str, Any]]]:
    """The run's value and the evaluation that gave it; a failed run has the base's figures alone."""
    record = run.record
    figure, own = record.metrics.get(metric), record.base_figures.get(metric) if kind == "base" else None
    value = own.value if figure is None and own else getattr(figure, kind, None)
    measured = figure or own
    if value is not None and measured is not None:
        settings = {name: each for name, each in settings_of(run).items() if name.startswith(("task.", CONTENT))}
        yield value, settings | {"figure.extractor": measured.extractor, "figure.n": measured.n}


def _settings_text(evaluations: Sequence[Mapping[str, Any]], shown: set[str]) -> str:
    """The settings in `shown` that these evaluations share: the task's, or else what the figures were measured with."""
    shared = shown - differing_settings(evaluations)
    names = sorted(name for name in shared if name.startswith("task.")) or sorted(shared)
    return settings_text({name: evaluations[0].get(name) for name in names})
