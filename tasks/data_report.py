"""What a look at a task's data finds, without a model: lines for people, faults that stop a run, a grid of pictures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_NAMES = 5  # shown of items that are left out, cut or equal


@dataclass
class DataReport:
    """`lines` by their title; `faults`, for which a run with these settings stops; `grid`, a Pillow image or None."""

    lines: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    grid: Any = None
    left_out: Mapping[str, int] = field(default_factory=dict)  # number of items by reason

    def add_stops(self, unasked: Collection[str] = ()) -> None:
        """Add a fault for items that a run with --task.on-bad-item fail stops at: all kinds except `unasked`."""
        kinds = [kind for kind, count in self.left_out.items() if count and kind not in unasked]
        if kinds:
            self.faults.append(f"a run stops at {', '.join(kinds)}; --task.on-bad-item skip leaves them out")

    def text(self) -> str:
        width = max(map(len, self.lines), default=0)
        lines = [f"{title:{width}}  {line}" for title, line in self.lines.items()]
        return "\n".join([*lines, *(f"fault: {fault}" for fault in self.faults)])

    def save_grid(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.grid.save(file)


def left_out_line(facts: Mapping[str, Any]) -> str:
    """What the facts of loaded data say about items that are left out."""
    names = facts.get("left_out_items", {})
    counts = {kind: count for kind, count in facts.get("left_out", {}).items() if count}
    return "; ".join(f"{kind}: {count}{_examples(names.get(kind, ()))}" for kind, count in counts.items()) or "nothing"


def shared_line(splits: Mapping[str, Iterable[Any]], what: str, names: Mapping[Any, str] | None = None) -> str:
    """How many of `what` are in training and in a held-out split too; `splits` has "train" and the others."""
    training = set(splits["train"])
    shared = list(dict.fromkeys(item for name, items in splits.items() if name != "train" for item in items))
    shared = [item for item in shared if item in training]
    return f"{len(shared)} {what}{_examples([str((names or {}).get(item, item)) for item in shared])}"


def lengths_line(lengths: Sequence[int], unit: str, limit: int, over: Sequence[str], verb: str) -> str:
    """The range of lengths against a limit; `over` are the items beyond it and `verb` what happens to them."""
    if not lengths:
        return "none"
    middle = statistics.median_low(lengths)
    beyond = f"{len(over)} are longer and {verb}{_examples(over)}" if over else "none is longer"
    return f"{min(lengths)} to {max(lengths)} {unit} (median {middle}); the limit is {limit}, {beyond}"


def counts_line(values: Iterable[str]) -> str:
    """Each value with its number, the most frequent first."""
    return ", ".join(f"{value}: {count}" for value, count in Counter(values).most_common())


def _examples(names: Sequence[str]) -> str:
    """ " (a, b and 3 more)", or nothing."""
    if not names:
        return ""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f" ({', '.join(name[:60] for name in names[:MOST_NAMES])}{more})"
