"""The data of `style`: a text cut in parts, split in runs of parts that no other split touches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import TaskError

PART = 1000  # characters, at least; a part ends with a line
RUN = 4  # neighbouring parts stay in one split
RUNS = 10  # of these, one for validation and one for test


@dataclass(frozen=True)
class TextSplits:
    """Parts of about PART characters, in the text's order; `revision` says exactly which text."""

    train: list[str]
    validation: list[str]
    test: list[str]
    revision: str


def load(data: str, test_items: int) -> TextSplits:
    """`data` is "python-reference" or a text file. Of each RUNS runs, one is for validation and one for test."""
    text = python_reference() if data == "python-reference" else read_text(Path(data).expanduser())
    parts = cut(text)
    if len(parts) < RUN * RUNS:
        raise TaskError(
            f"--task.data '{data}' has {len(text)} characters in {len(parts)} parts of whole lines; expected at least "
            f"{RUN * RUNS} parts of {PART} characters; give a longer text"
        )
    from tasks.cache import digest

    splits: dict[int, list[str]] = {}
    for index, part in enumerate(parts):
        splits.setdefault(min(index // RUN % RUNS, 2), []).append(part)
    validation, test = (spread(splits[group], test_items) for group in (0, 1))
    return TextSplits(splits[2], validation, test, digest(text.encode()))


def python_reference() -> str:
    """The language reference that every Python carries for its `help()` (PSF licence)."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise TaskError(
            f"--task.data '{file}' cannot be read ({error}): expected 'python-reference' or a text file in UTF-8; "
            "name such a file"
        ) from error


def cut(text: str) -> list[str]:
    """Whole lines, in parts of at least PART characters (the last may be shorter)."""
    parts, lines, length = [], [], 0
    for line in text.splitlines(keepends=True):
        lines.append(line)
        length += len(line)
        if length >= PART:
            parts.append("".join(lines))
            lines, length = [], 0
    return [*parts, "".join(lines)] if lines else parts


def spread(parts: Sequence[str], count: int) -> list[str]:
    """At most `count` parts, evenly over the text."""
    if len(parts) <= count:
        return list(parts)
    return [parts[i * len(parts) // count] for i in range(count)]
