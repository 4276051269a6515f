"""Data of the style task: a text cut into parts, and runs of neighbouring parts assigned to one split each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.bad_items import numbered
from tasks.cache import digest
from tasks.errors import TaskError
from tasks.evenly_spaced import evenly_spaced
from tasks.language.data.kept_apart import SharedItems, beyond, normalised

PART = 1000  # minimum characters; parts end at line ends
RUN = 4  # neighbouring parts that go to the same split
RUNS = 10  # one run in this many goes to validation, and one to test


@dataclass(frozen=True)
class TextSplits:
    """Parts of about PART characters in reading order, none in two splits.

    `source` names the text, `revision` is its digest and `facts` counts what is left out.
    """

    train: list[str]
    validation: list[str]
    test: list[str]
    source: str
    revision: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def load(data: str, test_items: int) -> TextSplits:
    """Load and split "python-reference" or a text file, with at most `test_items` parts in validation and in test.

    Raises TaskError if the file cannot be read or is too short.
    """
    text = python_reference() if data == "python-reference" else read_text(Path(data).expanduser())
    parts = cut_into_parts(text)
    if len(parts) < RUN * RUNS:
        long = len(text) >= RUN * RUNS * PART
        advice = "add line breaks, at which parts end, for example one per sentence" if long else "use a longer text"
        problem = "has too few line breaks" if long else "is too short"
        raise TaskError(
            f"--task.data {data!r} {problem}: expected at least {RUN * RUNS} parts of {PART} characters, found "
            f"{len(parts)} ({len(text):,} characters in {numbered(len(text.splitlines()), 'line')}); {advice}"
        )
    runs: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for index, part in enumerate(parts):
        runs[{0: "validation", 1: "test"}.get(index // RUN % RUNS, "train")].append(part)
    shared = SharedItems()
    apart = shared.take_out(runs, "parts", normalised, normalised)
    for split in ("validation", "test"):
        used = evenly_spaced(apart[split], test_items)
        if not used:
            raise TaskError(
                f"--task.data {data!r} repeats itself: every part for {split} occurs in another split too; expected a "
                "text with more different parts"
            )
        shared.leave_out(beyond("parts", split), [normalised(part) for part in apart[split] if part not in used])
        apart[split] = used
    return TextSplits(**apart, source=data, revision=digest(text.encode()), facts=shared.facts({}))


def python_reference() -> str:
    """The language reference behind Python's own `help()` (PSF licence)."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise TaskError(
            f"--task.data {str(file)!r} cannot be read ({error}): expected 'python-reference' or a text file in UTF-8"
        ) from error


def cut_into_parts(text: str) -> list[str]:
    """Cut a text at line ends into parts of at least PART characters (the last may be shorter)."""
    parts, lines, length = [], [], 0
    for line in text.splitlines(keepends=True):
        lines.append(line)
        length += len(line)
        if length >= PART:
            parts.append("".join(lines))
            lines, length = [], 0
    return [*parts, "".join(lines)] if lines else parts
