"""tyro's error boxes as one sentence."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator

FRAME = "│╭╮╰╯─|+- "  # tyro draws with ASCII where the stream cannot encode boxes


@contextlib.contextmanager
def captured(stream: io.StringIO) -> Iterator[None]:
    """Write what tyro prints to `stream`, in lines wide enough that no sentence is wrapped."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "2000"
    try:
        with contextlib.redirect_stderr(stream), contextlib.redirect_stdout(stream):
            yield
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)


def sentence(box: str) -> str:
    """The first paragraph of an error box, each line once; the box's title and frame are left out."""
    lines: list[str] = []
    for line in box.splitlines()[1:]:
        text = _unframed(line)
        if not text and lines:
            break
        if text and text not in lines:
            lines.append(text)
    return " ".join(lines).rstrip(".") or "the command line cannot be read"


def _unframed(line: str) -> str:
    """The text between the vertical bars; empty for a rule."""
    if not set(line) - set(FRAME):
        return ""
    text = line.strip()
    return text[1:-1].strip() if text[0] in "│|" and text[-1] in "│|" else text
