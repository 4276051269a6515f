"""Meanings of the E2E data, such as 'name[The Mill], food[Thai]', with the texts that say them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tasks.bad_items import BadItem, BadItems
from tasks.language.data.kept_apart import normalised

SLOT = re.compile(r"\s*([^\[\],]+?)\s*\[([^\[\]]*)\]\s*(?:,|$)")


class Pair(NamedTuple):
    """A meaning with one of its references; `place` says where it is in its file ("line 5")."""

    place: str
    meaning: str
    reference: str


@dataclass(frozen=True)
class Item:
    """A meaning, as a line and as slot to value, with all its references."""

    line: str
    meaning: Mapping[str, str]
    references: tuple[str, ...]


def parse_meaning(line: str) -> dict[str, str]:
    """Parse "name[The Mill], food[Thai]" into slot to value. Raises ValueError for any other format."""
    meaning, position = {}, 0
    while position < len(line):
        match = SLOT.match(line, position)
        if match is None or not match[1].strip():
            raise ValueError(f"'{line[position : position + 40]}' is not of the form slot[value]")
        meaning[match[1].strip()] = match[2].strip()
        position = match.end()
    if not meaning:
        raise ValueError("the meaning is empty")
    return meaning


def prompt_of(line: str) -> str:
    """The prompt of a meaning: its line and a line break."""
    return f"{line}\n"


def meaning_key(item: Item) -> frozenset[tuple[str, str]]:
    """The same for meanings that differ in case, white space or the order of their slots."""
    return frozenset((normalised(slot), normalised(value)) for slot, value in item.meaning.items())


def grouped(pairs: Iterable[Pair], source: str, bad: BadItems) -> list[Item]:
    """Group the references by meaning, in order of first appearance. Raises BadItem under the policy "fail"."""
    by_meaning: dict[str, list[Pair]] = {}
    for pair in pairs:
        with bad.skipped():
            if not pair.reference:
                sentence = (
                    f"--task.data '{source}', {pair.place}, has an empty reference: expected a text; correct that row"
                )
                raise BadItem("empty references", pair.place, sentence)
            by_meaning.setdefault(pair.meaning, []).append(pair)
    items = []
    for same_meaning in by_meaning.values():
        with bad.skipped():
            items.append(_item(same_meaning, source))
    return items


def _item(pairs: Sequence[Pair], source: str) -> Item:
    """The pairs of one meaning."""
    line, place = pairs[0].meaning, pairs[0].place
    try:
        return Item(line, parse_meaning(line), tuple(pair.reference for pair in pairs))
    except ValueError as error:
        sentence = (
            f"--task.data '{source}', {place}, has a meaning that cannot be read ({error}): expected "
            "'name[The Mill], food[Thai]'; correct that row"
        )
        raise BadItem("unreadable meanings", f"{place}: '{line[:40]}'", sentence) from None
