"""tyro's error boxes as one sentence."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator

FRAME = "│╭╮╰╯─|+- "  # tyro draws with ASCII if the stream cannot encode boxes
REWORDED = (
    (r"Missing value for argument '(\S+)'\. Expected 1 values", r"\1 needs a value"),
    (r"invalid choice '(.*)' for argument '(\S+)'\. Expected one of \((.*?),?\)", r"\2 must be one of \3, not '\1'"),
    (r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)", r"\1 must be an integer, not \2"),
    (r"Error parsing (\S+): could not convert string to float: (.*)", r"\1 must be a number, not \2"),
    (r"Error parsing (\S+): Failed to parse key-value pairs!", r"\1 needs pairs of a name and a value"),
    (r"Error parsing (\S+): no type matching (?:\{None\}\|)?INT .* \['(.*)'\].*", r"\1 must be an integer, not '\2'"),
    (r"Error parsing (\S+): no type matching (?:\{None\}\|)?FLOAT .* \['(.*)'\].*", r"\1 must be a number, not '\2'"),
    (r"Error parsing (\S+): no type matching (?:\{None\}\|)?(\S+) .* \['(.*)'\].*", r"\1 must be \2, not '\3'"),
    (r"Error parsing (\S+): Could not find valid parse for arguments: \[(.*)\]", r"\1 does not accept \2"),
    (r"Error parsing (\S+): (.*)", r"\1 cannot be read: \2"),
)


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
    """What an error box says, in one sentence: without its title, its frame and the help text that it repeats."""
    paragraphs = _paragraphs(box)
    if not paragraphs:
        return "the command line cannot be read"
    if paragraphs[0][0].startswith("Missing from"):
        names = [line.strip() for line in paragraphs[0] if line.startswith("    ") and not line.startswith("     ")]
        return f"missing required arguments: {', '.join(dict.fromkeys(names))}"
    text = " ".join(dict.fromkeys(line.strip() for line in paragraphs[0])).rstrip(".")
    for pattern, replacement in REWORDED:
        text, count = re.subn(f"^{pattern}$", replacement, text)
        if count:
            break
    return text.replace("'None', ", "").removeprefix("options.")  # the name of a positional argument


def _paragraphs(box: str) -> list[list[str]]:
    """The lines between the rules of a box; without a title that has its own paragraph."""
    lines = [line.rstrip() for line in box.splitlines()]
    framed = any(line.startswith(("╭", "+-")) for line in lines)
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if line.startswith(("╭", "+-")) or not set(line) - set(FRAME):
            paragraphs.append([])
        else:
            paragraphs[-1].append(line[2:].rstrip("│| "))
    paragraphs = [paragraph for paragraph in paragraphs if paragraph]
    return paragraphs if framed else paragraphs[1:]
