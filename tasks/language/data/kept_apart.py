"""Texts and meanings that several splits have: the test keeps them, else validation, and the others lose them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tasks.bad_items import left_out_facts
from tasks.duplicates import duplicate_facts

Item = TypeVar("Item")
Splits = Mapping[str, Sequence[Item]]  # "train", "validation" and "test"
KEEPING = ("test", "validation", "train")  # in this order, splits keep what they share


def normalised(text: str) -> str:
    """The text without differences of case and white space."""
    return " ".join(text.split()).casefold()


def lost(what: str, split: str) -> str:
    """The kind under which items are counted that an earlier split of KEEPING has too."""
    return f"{what} of {split} that are {'tested' if split == 'validation' else 'held out'} too"


def beyond(what: str, split: str) -> str:
    """The kind under which held-out items above the maximum are counted."""
    return f"{what} of {split} beyond --task.test-items"


def always_left_out(*what: str) -> set[str]:
    """The kinds that a run leaves out whatever its policy for bad items."""
    return {lost(each, split) for each in what for split in KEEPING[1:]} | {
        beyond(each, split) for each in what for split in KEEPING[:2]
    }


@dataclass
class SharedItems:
    """What splits have in common: names of the items that a split loses, by kind, and of the items of each group."""

    names: dict[str, list[str]] = field(default_factory=dict)
    groups: list[list[str]] = field(default_factory=list)

    def take_out(
        self, splits: Splits[Item], what: str, key: Callable[[Item], Hashable], name: Callable[[Item], str]
    ) -> dict[str, list[Item]]:
        """The splits without the items whose `key` an earlier split of KEEPING has."""
        held: set[Hashable] = set()
        by_key: dict[Hashable, list[str]] = {}
        apart = {}
        for split in KEEPING:
            items = [(key(item), item) for item in splits[split]]
            for each, item in items:
                by_key.setdefault(each, []).append(name(item))
            apart[split] = [item for each, item in items if each not in held]
            self.leave_out(lost(what, split), [name(item) for each, item in items if each in held])
            held.update(each for each, _ in items)
        self.groups += [names for names in by_key.values() if len(names) > 1]
        return apart

    def leave_out(self, kind: str, names: Sequence[str]) -> None:
        if names:
            self.names.setdefault(kind, []).extend(name[:60] for name in names)

    def facts(self, others: Mapping[str, Any]) -> dict[str, Any]:
        """Facts for the record, with those of `others`."""
        return dict(others) | duplicate_facts(self.groups) | left_out_facts(self.names, others)
