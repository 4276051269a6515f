"""What becomes of an item that cannot be used: the run fails and names it, or leaves it out and counts it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from tasks.errors import TaskError

OnBadItem = Literal["fail", "skip"]
SHOWN = 10  # names in the record and on the terminal


class BadItem(TaskError):
    """One item cannot be used: `kind` is what the record counts it as, `name` which it is."""

    def __init__(self, kind: str, name: str, sentence: str):
        super().__init__(f"{sentence}, or leave such items out with --task.on-bad-item skip")
        self.kind, self.name = kind, name


@dataclass
class BadItems:
    """The items left out so far, by kind."""

    policy: OnBadItem = "fail"
    names: dict[str, list[str]] = field(default_factory=dict)

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """A context for the reading of one item: with "skip", a BadItem in it is noted and goes no further."""
        try:
            yield
        except BadItem as bad:
            if self.policy == "fail":
                raise
            self.names.setdefault(bad.kind, []).append(bad.name)

    def facts(self) -> dict[str, Any]:
        """For the record: how many of each kind, and the first names. Says the same on standard error."""
        for kind, names in self.names.items():
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            print(f"left out: {len(names)} {kind} ({', '.join(names[:SHOWN])}{more})", file=sys.stderr)
        counts = {kind: len(names) for kind, names in self.names.items()}
        shown = {kind: names[:SHOWN] for kind, names in self.names.items()}
        return {"left_out": counts, "left_out_items": shown} if counts else {}
