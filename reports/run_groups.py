"""Group runs that differ only in the seed: one group is one row of a table and one point of a curve."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reports.costs.fields import COSTS
from reports.records import Run
from reports.schema import FigureRecord, Size, size_option
from reports.statistics.components import Components, components
from reports.statistics.seeds import Mean, mean_over_seeds
from reports.upgrade import ADDED_SETTINGS

# settings that change no figure; with `evaluate_every` the training is the same to the bit
WITHOUT_EFFECT = tuple(
    f"train.{name}" for name in ("checkpointing_steps", "log_every", "report_to", "evaluate_every", "evaluate_share")
)

CONTENT = "content."  # prefix of the settings that are digests or revisions
DIGEST = re.compile(r"^([0-9a-f]{8})[0-9a-f]{8,}$")


@dataclass(frozen=True)
class RunGroup:
    """Runs over seeds. `settings` holds those that differ between the groups of a table, to tell them apart.

    `finished` has one run per seed; `repeated` holds older runs of the same seeds, which no figure counts.
    """

    method: str
    size: Size | None
    settings: Mapping[str, Any]
    finished: tuple[Run, ...]
    failed: tuple[Run, ...]
    repeated: tuple[Run, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.method} {size_text(self.size)}" if self.size else self.method

    @cached_property
    def settings_text(self) -> str:
        return settings_text(self.settings)

    def figures(self, metric: str) -> list[FigureRecord]:
        return [run.record.metrics[metric] for run in self.finished if metric in run.record.metrics]

    def values(self, metric: str) -> list[float]:
        return [figure.value for figure in self.figures(metric)]

    def evaluations(self, metric: str) -> dict[int, list[float]]:
        """By training seed, in order: the metric under each evaluation seed, or the one value of an evaluation.

        Runs with unequal numbers of evaluation seeds share no such table; each then counts with its mean.
        """
        records = [run.record for run in self.finished if metric in run.record.metrics]
        measured = {record.seed: record.metrics[metric] for record in records}
        repeated = len({len(figure.evaluation or ()) for figure in measured.values()}) == 1
        return {
            seed: list(figure.evaluation or ()) if repeated and figure.evaluation else [figure.value]
            for seed, figure in sorted(measured.items())
        }

    def mean(self, metric: str) -> Mean | None:
        """None if no finished run of the group has the metric."""
        figures = self.figures(metric)
        if not figures:
            return None
        return mean_over_seeds([*self.evaluations(metric).values()], _interval(figures[0]), figures[0].bounds)

    @cached_property
    def validation_loss(self) -> float:
        """Mean over seeds of the loss on validation items; infinite if no run measured it."""
        losses = self.values("validation_loss")
        return sum(losses) / len(losses) if losses else math.inf

    def components(self, metric: str) -> Components | None:
        """The sources of the metric's variance; None unless its runs were evaluated under several evaluation seeds."""
        values = [*self.evaluations(metric).values()]
        if not values or len(values[0]) < 2:
            return None
        errors = [figure.standard_error for figure in self.figures(metric) if figure.standard_error is not None]
        return components(values, math.hypot(*errors) / math.sqrt(len(errors)) if errors else None)

    def cost(self, name: str) -> float | None:
        """Mean of one of `COSTS` over the finished runs; None if no run recorded it."""
        values = [value for run in self.finished if (value := COSTS[name].read(run.record)) is not None]
        return sum(values) / len(values) if values else None


def _interval(figure: FigureRecord) -> tuple[float, float] | None:
    return None if figure.low is None or figure.high is None else (figure.low, figure.high)


def group_runs(finished: Iterable[Run], failed: Iterable[Run] = ()) -> list[RunGroup]:
    """The groups of one task's runs, ordered by method, size and settings.

    If a run was repeated with the same settings and seed (by another release, for example), the newest counts.
    Figures of different extractors share no group, nor do runs whose base or data differ under one name.
    """
    finished, failed = [*finished], [*failed]
    settings = {run.folder: settings_of(run) for run in [*finished, *failed]}
    for folder, extractors in _extractors(finished).items():
        settings[folder]["record.extractors"] = extractors
    _drop_named_contents(settings.values())
    shown = _settings_shown([*finished, *failed], settings)
    runs_by_key: dict[tuple, tuple[list[Run], list[Run]]] = defaultdict(lambda: ([], []))
    settings_by_key: dict[tuple, dict[str, Any]] = {}
    for kind, runs in enumerate((finished, failed)):
        for run in runs:
            own = settings[run.folder]
            differing = {name: own[name] for name in sorted(shown[run.record.method]) if name in own}
            size = run.record.size
            key = (run.record.method, size.field if size else "", size.value if size else 0.0, _text(differing))
            runs_by_key[key][kind].append(run)
            settings_by_key[key] = differing
    groups = []
    for key in runs_by_key:
        newest, repeated = _one_per_seed(runs_by_key[key][0])
        size = Size(key[1], key[2]) if key[1] else None
        groups.append(RunGroup(key[0], size, settings_by_key[key], newest, tuple(runs_by_key[key][1]), repeated))
    return by_method(groups)


def _one_per_seed(runs: Sequence[Run]) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """The newest run of each seed, by the time of its record, and the others; both in their given order."""
    by_seed: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        by_seed[run.record.seed].append(run)
    newest = {same[0].folder if len(same) == 1 else max(same, key=_written).folder for same in by_seed.values()}
    return tuple(r for r in runs if r.folder in newest), tuple(r for r in runs if r.folder not in newest)


def _written(run: Run) -> tuple[float, str]:
    return (run.folder / "result.json").stat().st_mtime, run.folder.name


def by_method(groups: Iterable[RunGroup]) -> list[RunGroup]:
    """The groups in order of method, size and settings, numbers by their value."""
    return sorted(groups, key=_order)


def _order(group: RunGroup) -> tuple:
    size = (group.size.value, group.size.field) if group.size else (0.0, "")
    return group.method, size, [(name, _value_order(value)) for name, value in sorted(group.settings.items())]


def _value_order(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return not number, value if number else 0.0, "" if number else _text(value)


def distinct_label(group: RunGroup, groups: Iterable[RunGroup]) -> str:
    """The group's label, with the fewest settings that tell it from the groups of the same label."""
    same = [other for other in groups if other.label == group.label]
    names = splitting_settings(same, lambda part: len(part) < 2) if len(same) > 1 else set()
    settings = settings_text({name: group.settings[name] for name in sorted(names & group.settings.keys())})
    return f"{group.label} ({settings})" if settings else group.label


def settings_of(run: Run) -> dict[str, Any]:
    """All settings of a run by dotted name, without those that identify it in its group or change no figure.

    Each option of a method of peft is a setting, and so is the content of the base and of the data. A setting that did
    not exist when the run was made has the value that reproduces the run. Frozen weights in the dtype of the
    computation are the default, also beside a method that has none and is stored in fp32.
    """
    record = run.record
    flat = dict(ADDED_SETTINGS) | {
        f"{part}.{name}": v for part in ("adapter", "task", "train") for name, v in getattr(record.config, part).items()
    }
    storage, compute = (flat.get(name) for name in ("task.base_precision", "train.mixed_precision"))
    if storage is not None and storage == compute:
        flat["task.base_precision"] = None
    if (options := record.config.peft_options) is not None:
        del flat["adapter.options"]
        size_name = size_option(options)
        given = {name: value for name, value in options.items() if name != size_name and value is not None}
        flat |= {f"adapter.options.{name}": value for name, value in given.items()}
    size = f"adapter.{record.size.field}" if record.size else ""
    for name in ("adapter.name", "task.name", "train.seed", size, *WITHOUT_EFFECT):
        flat.pop(name, None)
    return flat | {"record.source": record.source} | content_of(run)


def content_of(run: Run) -> dict[str, str]:
    """Revisions, or a digest's first digits, of what the task's settings name (base, data, ...), by dotted name."""
    contents = run.record.content.get("task") or {}
    return {f"{CONTENT}{name}": DIGEST.sub(r"\1", str(content)) for name, content in contents.items()}


def versions_of(group: RunGroup) -> dict[str, Any]:
    """The versions of the base and of the data that tell the group from others, by dotted name."""
    return {name: value for name, value in group.settings.items() if name.startswith(CONTENT)}


def _drop_named_contents(settings: Collection[dict[str, Any]]) -> None:
    """Remove the digests that their names tell apart as well: where each base (data, ...) has one content."""
    for content in {name for each in settings for name in each if name.startswith(CONTENT)}:
        named = f"task.{content.removeprefix(CONTENT)}"
        pairs = {(_text(each.get(named)), _text(each.get(content))) for each in settings}
        if len(pairs) == len({name for name, _ in pairs}):
            for each in settings:
                each.pop(content, None)


def _extractors(runs: Sequence[Run]) -> dict[Path, str]:
    """The extractors of the metrics that not all runs measured with the same one, by the run's folder."""
    names: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for metric, figure in run.record.metrics.items():
            names[metric].add(figure.extractor)
    mixed = {metric for metric, extractors in names.items() if len(extractors) > 1}
    figures = {run.folder: [figure for metric, figure in run.record.metrics.items() if metric in mixed] for run in runs}
    return {folder: ", ".join(sorted({figure.extractor for figure in own})) for folder, own in figures.items() if own}


def _settings_shown(runs: list[Run], settings: Mapping) -> dict[str, set[str]]:
    """By method: its adapter settings that differ within the method, and the other settings that differ anywhere."""
    by_method: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        by_method[run.record.method].append(settings[run.folder])
    shared = {name for name in differing_settings(settings.values()) if not name.startswith("adapter.")}
    own = {method: differing_settings(each) for method, each in by_method.items()}
    return {method: shared | {name for name in own[method] if name.startswith("adapter.")} for method in own}


def differing_settings(settings: Iterable[Mapping[str, Any]]) -> set[str]:
    """Names whose value is not the same in all of `settings`; a missing name counts as null."""
    settings = list(settings)
    names = {name for each in settings for name in each}
    return {name for name in names if len({_text(each.get(name)) for each in settings}) > 1}


def plot_lines(groups: Sequence[RunGroup]) -> dict[str, list[RunGroup]]:
    """Groups to join by one plot line, in order of size, under the line's name.

    A line is a method; if a size occurs twice in it, the method is split by the fewest settings that make sizes unique.
    A learning rate that follows the size alone therefore splits nothing.
    """
    methods: dict[str, list[RunGroup]] = defaultdict(list)
    for group in by_method(groups):
        methods[group.method].append(group)
    lines: dict[str, list[RunGroup]] = {}
    for method, members in methods.items():
        parts = split_by_settings(members, splitting_settings(members))
        for settings, line in parts.items():
            others = [group for other in parts.values() if other is not line for group in other]
            text = settings or (_own_settings(line, others) if others else "")
            lines[f"{method} ({text})" if text else method] = line
    return lines


def _own_settings(line: Sequence[RunGroup], others: Sequence[RunGroup]) -> str:
    """The settings that all groups of the line share and that no other line has."""
    shared = set.intersection(*({(name, _text(value)) for name, value in group.settings.items()} for group in line))
    names = {name for name, _ in shared} - {name for group in others for name in group.settings}
    return settings_text({name: line[0].settings[name] for name in sorted(names)})


def at_best_rates(groups: Sequence[RunGroup]) -> tuple[list[RunGroup], list[str]]:
    """Of groups that differ in the learning rate alone, the one with most seeds, then the lowest validation loss.

    By that loss a search chooses rates too. Also returns a note that says so, if a group was left out. All groups stay
    where one of them has no validation loss.
    """
    alike: dict[tuple, list[RunGroup]] = defaultdict(list)
    for group in groups:
        others = {name: value for name, value in group.settings.items() if name != "train.learning_rate"}
        alike[group.method, group.size, _text(others)].append(group)
    kept = [
        own if any(math.isinf(group.validation_loss) for group in own) else [min(own, key=_rate_order)]
        for own in alike.values()
    ]
    chosen = {id(group) for own in kept for group in own}
    note = "Of several learning rates, the one with most seeds, then the lowest validation loss, is shown."
    return [group for group in groups if id(group) in chosen], [note] if len(chosen) < len(groups) else []


def _rate_order(group: RunGroup) -> tuple[int, float]:
    return -len(group.finished), group.validation_loss


def splitting_settings(
    groups: Sequence[RunGroup], are_unique: Callable[[Sequence[RunGroup]], bool] | None = None
) -> set[str]:
    """The settings needed to make sizes (or what `are_unique` checks) unique; those with most values go first."""
    are_unique = are_unique or _sizes_are_unique
    names = {name for group in groups for name in group.settings}
    values = {name: len({value_text(group.settings.get(name)) for group in groups}) for name in names}
    needed = set(names)
    for name in sorted(names, key=lambda name: (-values[name], name)):
        if all(are_unique(line) for line in split_by_settings(groups, needed - {name}).values()):
            needed.remove(name)
    return needed


def split_by_settings(groups: Sequence[RunGroup], names: Set[str]) -> dict[str, list[RunGroup]]:
    """The groups by the text of their values for the named settings."""
    parts: dict[str, list[RunGroup]] = defaultdict(list)
    for group in groups:
        parts[settings_text({name: group.settings[name] for name in sorted(names & group.settings.keys())})].append(
            group
        )
    return parts


def _sizes_are_unique(groups: Sequence[RunGroup]) -> bool:
    return len({group.size for group in groups}) == len(groups)


def settings_text(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{_shown_name(name)} {value_text(value)}" for name, value in settings.items())


def _shown_name(name: str) -> str:
    """Without the part of the configuration: `task.base` is "base", `content.base` the base's "version"."""
    return f"{name.removeprefix(CONTENT)} version" if name.startswith(CONTENT) else name.split(".", 1)[1]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def value_text(value: Any) -> str:
    """A setting's value as a person would write it."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else _text(value)


def size_text(size: Size | None) -> str:
    return "" if size is None else f"{size.value:.10g}"
