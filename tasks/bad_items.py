"""Policy for unusable data items: fail and name the item, or skip it and count it in the record."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from tasks.distributed import is_main
from tasks.errors import TaskError

OnBadItem = Literal["fail", "skip"]
MAX_NAMES = 10  # of skipped items, in the record and on the terminal


def say_left_out(facts: Mapping[str, Any]) -> None:
    """Print what a task's facts say about items that are left out to standard error."""
    for kind, count in facts.get("left_out", {}).items() if is_main() else ():
        names = facts.get("left_out_items", {}).get(kind, [])
        more = f" and {count - len(names)} more" if names and count > len(names) else ""
        examples = f" ({', '.join(names)}{more})" if names else ""
        print(f"left out: {kind}: {count}{examples}", file=sys.stderr)


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

    def facts(self) -> dict[str, Any]:
        """Counts by kind and the first names, for the record."""
        counts = {kind: len(names) for kind, names in self.names.items()}
        first_names = {kind: names[:MAX_NAMES] for kind, names in self.names.items()}
        return {"left_out": counts, "left_out_items": first_names} if counts else {}
