"""Data of the style task: a text cut into parts, and runs of neighbouring parts assigned to one split each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.bad_items import numbered
from tasks.cache import digest
from tasks.errors import TaskError

PART = 1000  # minimum characters; parts end at line ends
RUN = 4  # neighbouring parts that go to the same split
RUNS = 10  # one run in this many goes to validation, and one to test


@dataclass(frozen=True)
class TextSplits:
    """Parts of about PART characters in reading order; `source` names the text and `revision` is its digest."""

    train: list[str]
    validation: list[str]
    test: list[str]
    source: str
    revision: str


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
    splits: dict[int, list[str]] = {}
    for index, part in enumerate(parts):
        splits.setdefault(min(index // RUN % RUNS, 2), []).append(part)
    validation, test = (evenly_spaced(splits[group], test_items) for group in (0, 1))
    return TextSplits(splits[2], validation, test, data, digest(text.encode()))


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


def evenly_spaced(parts: Sequence[str], count: int) -> list[str]:
    """At most `count` parts, evenly spaced."""
    if len(parts) <= count:
        return list(parts)
    return [parts[i * len(parts) // count] for i in range(count)]
