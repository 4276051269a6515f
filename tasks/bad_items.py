"""Policy for unusable data items: fail and name the item, or skip it and count it in the record."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from tasks.distributed import is_main
from tasks.errors import TaskError

OnBadItem = Literal["fail", "skip"]
MAX_NAMES = 10  # of skipped items, in the record
MAX_SHOWN = 5


def print_left_out(facts: Mapping[str, Any], before: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Print what a task's facts tell about items that are left out, unless the facts `before` tell the same."""
    known = before.get("left_out", {})
    for kind, count in facts.get("left_out", {}).items() if is_main() else ():
        if known.get(kind) != count:
            names = facts.get("left_out_items", {}).get(kind, [])
            print(f"left out: {kind}: {count}{listed(names, count)}", file=sys.stderr)


def left_out_facts(
    names: Mapping[str, Sequence[str]], others: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Counts by kind and the first names, for the record, with those in the facts `others`; empty without names."""
    if not names:
        return {}
    counts = {kind: len(items) for kind, items in names.items()}
    first = {kind: list(items[:MAX_NAMES]) for kind, items in names.items()}
    return {
        "left_out": {**others.get("left_out", {}), **counts},
        "left_out_items": {**others.get("left_out_items", {}), **first},
    }


def listed(names: Sequence[str], count: int | None = None) -> str:
    """ " (a, b and 3 more)" for the first names of `count` items, or nothing without names."""
    return f" ({first_names(names, count)})" if names else ""


def first_names(names: Sequence[str], count: int | None = None) -> str:
    """ "a, b and 3 more" for `count` items; an empty name is shown as ''."""
    shown = [name[:60] or "''" for name in names[:MAX_SHOWN]]
    others = (len(names) if count is None else count) - len(shown)
    return f"{', '.join(shown)}{f' and {others} more' if others > 0 else ''}"


def left_out_line(facts: Mapping[str, Any]) -> str:
    """What the facts of loaded data tell about items that are left out."""
    names = facts.get("left_out_items", {})
    counts = {kind: count for kind, count in facts.get("left_out", {}).items() if count}
    lines = [f"{kind}: {count}{listed(names.get(kind, ()), count)}" for kind, count in counts.items()]
    return "; ".join(lines) or "nothing"


def numbered(count: int, what: str) -> str:
    """ "1 picture", "2 pictures"."""
    return f"{count} {what}{'' if count == 1 else 's'}"


class BadItem(TaskError):
    """An unusable item: `kind` is the category it is counted under, `name` identifies the item."""

    def __init__(self, kind: str, name: str, sentence: str):
        super().__init__(f"{sentence}, or skip such items with --task.on-bad-item skip")
        self.kind, self.name = kind, name


@dataclass
class BadItems:
    """Names of the items left out so far, by kind."""

    policy: OnBadItem = "fail"
    names: dict[str, list[str]] = field(default_factory=dict)

    @contextmanager
    def skipped(self) -> Iterator[None]:
        """Wrap the reading of one item: under "skip", a BadItem raised inside is counted instead of propagated."""
        try:
            yield
        except BadItem as bad:
            if self.policy == "fail":
                raise
            self.names.setdefault(bad.kind, []).append(bad.name)

    def leave_out(self, kind: str, names: Sequence[str]) -> None:
        """Count items that are left out whatever the policy."""
        self.names.setdefault(kind, []).extend(names)

    def advice(self, otherwise: str) -> str:
        """What to do if too few items are left: correct those that are left out, with their reasons, or `otherwise`."""
        return f"correct what is left out ({left_out_line(self.facts())})" if any(self.names.values()) else otherwise

    def facts(self) -> dict[str, Any]:
        """Counts by kind and the first names, for the record."""
        return left_out_facts(self.names)
