"""What a look at a task's data finds, without a model: lines for people, faults that stop a run, a grid of pictures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.bad_items import listed, numbered


@dataclass
class DataReport:
    """`lines` by their title; `faults`, for which a run with these settings stops; `grid`, a Pillow image or None."""

    lines: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    grid: Any = None
    left_out: Mapping[str, int] = field(default_factory=dict)  # number of items by reason

    def add_stops(self, always_left_out: Collection[str] = ()) -> None:
        """Add a fault for items that a run with --task.on-bad-item fail stops at: kinds not `always_left_out`."""
        kinds = [kind for kind, count in self.left_out.items() if count and kind not in always_left_out]
        if kinds:
            self.faults.append(f"a run stops at {', '.join(kinds)}; --task.on-bad-item skip leaves them out")

    def text(self) -> str:
        width = max(map(len, self.lines), default=0)
        lines = [f"{title:{width}}  {line}" for title, line in self.lines.items()]
        return "\n".join([*lines, *(f"fault: {fault}" for fault in self.faults)])

    def save_grid(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.grid.save(file)


def shared_line(splits: Mapping[str, Iterable[Any]], what: str, names: Mapping[Any, str] | None = None) -> str:
    """How many of `what` (one of them) are in training and in a held-out split too.

    `splits` has "train" and the others; `names` are what to show for items.
    """
    training = set(splits["train"])
    shared = list(dict.fromkeys(item for name, items in splits.items() if name != "train" for item in items))
    shared = [item for item in shared if item in training]
    return numbered(len(shared), what) + listed([str((names or {}).get(item, item)) for item in shared])


def lengths_line(lengths: Sequence[int], unit: str, limit: int, over: Sequence[str], result: str) -> str:
    """The range of lengths against a limit; `over` are the items beyond it and `result` what becomes of them."""
    if not lengths:
        return "none"
    middle = statistics.median_low(lengths)
    beyond = f"{len(over)} longer: {result}{listed(over)}" if over else "none is longer"
    return f"{range_text(lengths, unit)} (median {middle}); the limit is {limit}, {beyond}"


def counts_line(values: Iterable[str]) -> str:
    """Each value with its number, the most frequent first."""
    return ", ".join(f"{value}: {count}" for value, count in Counter(values).most_common())


def range_text(values: Sequence[int], unit: str) -> str:
    """ "5 to 9 tokens", or "5 tokens" if all are equal."""
    low, high = min(values), max(values)
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"
