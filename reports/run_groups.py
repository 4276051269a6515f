"""Arms: runs that differ in nothing but the seed are one arm, one row of a table and one point of a curve."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from reports.records import Run
from reports.schema import Figure, Size
from reports.statistics import Mean, mean_over_seeds


@dataclass(frozen=True)
class RunGroup:
    """`settings` are those that differ between the arms of the table, so that a reader can tell them apart."""

    method: str
    size: Size | None
    settings: Mapping[str, Any]
    finished: tuple[Run, ...]
    failed: tuple[Run, ...]

    @property
    def label(self) -> str:
        return f"{self.method} {show_size(self.size)}" if self.size else self.method

    @cached_property
    def settings_text(self) -> str:
        return settings_text(self.settings)

    def figures(self, metric: str) -> list[Figure]:
        return [run.record.metrics[metric] for run in self.finished if metric in run.record.metrics]

    def values(self, metric: str) -> list[float]:
        return [figure.value for figure in self.figures(metric)]

    def mean(self, metric: str) -> Mean | None:
        """None where no finished run of the arm has the metric."""
        figures = self.figures(metric)
        if not figures:
            return None
        low, high = figures[0].low, figures[0].high
        return mean_over_seeds(
            [f.value for f in figures], (low, high) if low is not None and high is not None else None
        )

    def cost(self, name: str) -> float | None:
        """The mean over finished runs of one of `COSTS`; None where no run recorded it."""
        values = [value for run in self.finished if (value := COSTS[name].read(run)) is not None]
        return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class Cost:
    """What a run cost: its title, its unit, and where the record says it."""

    title: str
    unit: str
    path: tuple[str, ...]

    def read(self, run: Run) -> float | None:
        value: Any = run.record
        for name in self.path:
            value = getattr(value, name, None)
        return value


COSTS = {
    "parameters": Cost("Trained parameters", "", ("parameters", "trainable")),
    "adapter_bytes": Cost("Adapter file", "B", ("adapter_bytes",)),
    "train_seconds": Cost("Training time", "s", ("seconds", "train")),
    "step_seconds": Cost("Median step time", "s", ("seconds", "step_median")),
    "total_seconds": Cost("Total time", "s", ("seconds", "whole")),
    "memory_bytes": Cost("Peak memory", "B", ("memory", "peak_bytes")),
}


def arms(finished: Iterable[Run], failed: Iterable[Run] = ()) -> list[RunGroup]:
    """The arms of one task's runs, ordered by method, size and settings."""
    finished, failed = [*finished], [*failed]
    settings = {run.folder: settings_of(run) for run in [*finished, *failed]}
    varying = _varying([*finished, *failed], settings)
    groups: dict[tuple, tuple[list[Run], list[Run]]] = defaultdict(lambda: ([], []))
    labels: dict[tuple, dict[str, Any]] = {}
    for kind, runs in enumerate((finished, failed)):
        for run in runs:
            mine = settings[run.folder]
            shown = {name: mine[name] for name in sorted(varying[run.record.method]) if name in mine}
            size = run.record.size
            key = (run.record.method, size.field if size else "", size.value if size else 0.0, _text(shown))
            groups[key][kind].append(run)
            labels[key] = shown
    return [
        RunGroup(
            key[0], Size(key[1], key[2]) if key[1] else None, labels[key], tuple(groups[key][0]), tuple(groups[key][1])
        )
        for key in sorted(groups)
    ]


def settings_of(run: Run) -> dict[str, Any]:
    """All settings of a run by dotted name, without those that an arm is made of (method, size, seed)."""
    record = run.record
    flat = {
        f"{part}.{name}": v for part in ("adapter", "task", "train") for name, v in getattr(record.config, part).items()
    }
    for name in ("adapter.name", "task.name", "train.seed", f"adapter.{record.size.field}" if record.size else ""):
        flat.pop(name, None)
    return flat | {"record.source": record.source}


def _varying(runs: list[Run], settings: Mapping) -> dict[str, set[str]]:
    """By method, the settings worth showing: its own that differ within it, and the shared that differ anywhere."""
    by_method: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        by_method[run.record.method].append(settings[run.folder])
    shared = {name for name in _differing(settings.values()) if not name.startswith("adapter.")}
    own = {method: {n for n in _differing(mine) if n.startswith("adapter.")} for method, mine in by_method.items()}
    return {method: shared | names for method, names in own.items()}


def _differing(settings: Iterable[Mapping[str, Any]]) -> set[str]:
    """Names whose value is not the same in all of `settings`; to be without a name differs from having it."""
    settings = list(settings)
    names = {name for mine in settings for name in mine}
    return {name for name in names if len({_text(mine.get(name)) for mine in settings}) > 1}


def lines_of(arms: Sequence[RunGroup]) -> dict[str, list[RunGroup]]:
    """Arms to be joined, by name, in order of size: a method's, or where a size occurs twice in it, those that agree
    in as few settings as tell them apart (a rate that follows the size alone is none of them)."""
    methods: dict[str, list[RunGroup]] = defaultdict(list)
    for arm in sorted(arms, key=lambda arm: arm.size.value if arm.size else 0):
        methods[arm.method].append(arm)
    lines: dict[str, list[RunGroup]] = {}
    for method, own in methods.items():
        names = {name for arm in own for name in arm.settings}
        values = {name: len({show(arm.settings.get(name)) for arm in own}) for name in names}
        needed = set(names)
        for name in sorted(names, key=lambda name: (-values[name], name)):
            if all(_each_size_once(group) for group in _agreeing(own, needed - {name}).values()):
                needed.remove(name)
        for settings, group in _agreeing(own, needed).items():
            lines[f"{method} ({settings})" if settings else method] = group
    return lines


def _agreeing(arms: Sequence[RunGroup], names: Set[str]) -> dict[str, list[RunGroup]]:
    """The arms by what they have for the named settings, in words."""
    groups: dict[str, list[RunGroup]] = defaultdict(list)
    for arm in arms:
        groups[settings_text({name: arm.settings[name] for name in sorted(names & arm.settings.keys())})].append(arm)
    return groups


def _each_size_once(arms: Sequence[RunGroup]) -> bool:
    return len({arm.size for arm in arms}) == len(arms)


def settings_text(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.split('.', 1)[1]} {show(value)}" for name, value in settings.items())


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def show(value: Any) -> str:
    """A setting's value as a person writes it."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else _text(value)


def show_size(size: Size | None) -> str:
    return "" if size is None else f"{size.value:.10g}"
