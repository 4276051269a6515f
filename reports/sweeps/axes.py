"""Settings as axes: what varied between the groups of a task, and the groups that differ in the axes alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from reports.errors import ReportError
from reports.run_groups import (
    CONTENT,
    RunGroup,
    by_method,
    size_text,
    split_by_settings,
    splitting_settings,
    value_text,
)
from reports.schema import Size

RATE = "train.learning_rate"


@dataclass(frozen=True)
class Facet:
    """Groups of one method that differ in the axes alone; `size` and `settings` tell it from the method's others."""

    method: str
    size: Size | None  # None also if the size is an axis
    settings: str
    groups: tuple[RunGroup, ...]

    @property
    def title(self) -> str:
        return ", ".join(filter(None, (f"{self.method} {size_text(self.size)}".strip(), self.settings)))


def settings_with_size(group: RunGroup) -> dict[str, Any]:
    """All settings that tell the group apart, by dotted name, the method's size among them."""
    size = {size_name(group.size): group.size.value} if group.size else {}
    return size | dict(group.settings)


def size_name(size: Size) -> str:
    """The dotted name of a method's size: adapter.rank."""
    return f"adapter.{size.field}"


def varied(groups: Iterable[RunGroup]) -> dict[str, list[Any]]:
    """The settings with several values within one method, by dotted name: all of their values, in order.

    Versions of a base or of data are no settings that anyone varied.
    """
    by_name: dict[str, list[Any]] = defaultdict(list)
    methods: dict[str, list[RunGroup]] = defaultdict(list)
    for group in groups:
        methods[group.method].append(group)
    for own in methods.values():
        settings = [settings_with_size(group) for group in own]
        for name in {name for each in settings for name in each if not name.startswith(CONTENT)}:
            values = in_order(each[name] for each in settings if name in each)
            if len(values) > 1:
                by_name[name] += values
    return {name: in_order(values) for name, values in sorted(by_name.items())}


def in_order(values: Iterable[Any]) -> list[Any]:
    """Distinct values: numbers by size, then the others by their text."""
    distinct = {value_text(value): value for value in values}
    return sorted(distinct.values(), key=lambda v: (0, v, "") if is_number(v) else (1, 0, value_text(v)))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def known_setting(name: str, task: str, known: Mapping[str, Sequence[Any]]) -> str:
    """The dotted name of a setting that varied, from its dotted name or its last part, with - or _.

    Raises ReportError for one that did not vary; the sentence lists what did.
    """
    asked = name.replace("-", "_")
    matching = [other for other in known if asked in (other, other.rpartition(".")[2])]
    if len(matching) == 1:
        return matching[0]
    close = get_close_matches(asked, known, 1, 0.4)
    meant = f" (did you mean '{close[0]}'?)" if close and not matching else ""
    raise ReportError(f"the runs of '{task}' do not differ in '{name}'{meant}; {differences_text(known)}")


def differences_text(known: Mapping[str, Sequence[Any]]) -> str:
    """What varied, with the number of values of each."""
    names = ", ".join(f"{name} ({len(values)} values)" for name, values in known.items())
    return f"they differ in {names or 'nothing but the method and the seed'}"


def chosen_axes(groups: Sequence[RunGroup], task: str, over: Sequence[str], count: int) -> list[str]:
    """`count` settings for the axes: those named in `over`, by default the learning rate and the size first.

    Raises ReportError for a setting that did not vary, and if too few did.
    """
    known = varied(groups)
    if len(over) > count:
        raise ReportError(f"expected at most {count} settings for --over, not {len(over)}: {', '.join(over)}")
    names = list(dict.fromkeys(known_setting(name, task, known) for name in over))
    names += [name for name in usual_order(groups) if name not in names][: count - len(names)]
    if len(names) < count:
        need = "two settings" if count == 2 else "a setting"
        raise ReportError(f"the runs of '{task}' do not differ in {need} within a method: {differences_text(known)}")
    return names


def usual_order(groups: Sequence[RunGroup]) -> list[str]:
    """The settings that varied: the learning rate, the sizes, then those with most values first."""
    known = varied(groups)
    sizes = {size_name(group.size) for group in groups if group.size}
    return sorted(known, key=lambda name: (name != RATE, name not in sizes, -len(known[name]), name))


def facets(groups: Iterable[RunGroup], axes: Sequence[str]) -> list[Facet]:
    """The groups that have all axes, split into those that differ in the axes alone.

    A method is split by its size, unless that is an axis, and by the fewest other settings that leave one group per
    place.
    """
    same: dict[tuple[str, Size | None], list[RunGroup]] = defaultdict(list)
    for group in by_method(groups):
        if all(name in settings_with_size(group) for name in axes):
            whole = group.size is None or size_name(group.size) in axes
            same[group.method, None if whole else group.size].append(group)

    def places_are_unique(line: Sequence[RunGroup]) -> bool:
        return len({place(group, axes) for group in line}) == len(line)

    return [
        Facet(method, size, settings, tuple(line))
        for (method, size), own in same.items()
        for settings, line in split_by_settings(own, splitting_settings(own, places_are_unique) - set(axes)).items()
    ]


def place(group: RunGroup, axes: Sequence[str]) -> tuple[str, ...]:
    """The texts of the group's values on the axes."""
    settings = settings_with_size(group)
    return tuple(value_text(settings[name]) for name in axes)
