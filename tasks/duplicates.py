"""Items of the same content: the number of their groups, in the record and in `python -m tasks check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.bad_items import MAX_NAMES, listed, numbered

COUNT, NAMES = "duplicate_groups", "duplicates"  # facts


def duplicate_facts(groups: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The number of groups, and what is in the first ones, from the names of each group's items."""
    names = [" = ".join(name[:60] for name in group[:MAX_NAMES]) for group in groups[:MAX_NAMES]]
    return {COUNT: len(groups)} | ({NAMES: names} if names else {})


def duplicates_line(facts: Mapping[str, Any], what: str) -> str:
    """ "2 groups of the same or nearly the same pictures (a.png = b.png, ...), each in one split"."""
    count = facts.get(COUNT, 0)
    return f"{numbered(count, 'group')} of {what}{listed(facts.get(NAMES, ()), count)}, each in one split"
