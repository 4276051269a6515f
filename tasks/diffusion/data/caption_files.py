"""Captions as people write them: a table of file names, or a text beside each picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.bad_items import BadItem, first_names
from tasks.diffusion.data.picture_folder import PictureFolder
from tasks.errors import TaskError

TEXTS = (".txt", ".caption")  # beside each picture, as kohya's scripts read them
FORMS = (
    'metadata.jsonl with a line per picture such as {"file_name": "cat.png", "text": "a cat"}, metadata.csv or '
    "captions.csv with a header such as file_name,text or filename,caption, or a text file beside each picture "
    "(cat.txt beside cat.png)"
)


@dataclass(frozen=True)
class Columns:
    """The dataset's columns of pictures and captions; None for the only one of its kind."""

    image: str | None = None
    caption: str | None = None


@dataclass(frozen=True)
class Row:
    """A picture, as a file or its content, and its caption, if it has one; `name` identifies it in messages.

    The caption may be the path of a text file, which is read with the picture.
    """

    name: str
    source: Path | bytes
    caption: Any


def texts_beside(folder: PictureFolder) -> dict[Path, Path]:
    """The text file of the same name beside each training picture that has one."""
    files = set(folder.files)
    found = {}
    for picture in filter(folder.is_for_training, folder.pictures):
        text = next((file for suffix in TEXTS if (file := picture.with_suffix(suffix)) in files), None)
        if text is not None:
            found[picture] = text
    return found


def rows_of_texts(folder: PictureFolder, texts: dict[Path, Path]) -> list[Row]:
    return [Row(str(picture.relative_to(folder.root)), picture, text) for picture, text in texts.items()]


def read_caption(file: Path, picture: str) -> str:
    """The text on one line. Raises BadItem if it cannot be read."""
    try:
        return " ".join(file.read_text(encoding="utf-8-sig").split())
    except (OSError, ValueError) as broken:
        sentence = f"the caption '{file}' cannot be read ({broken}): save it in UTF-8"
        raise BadItem("pictures with an unreadable caption", picture, sentence) from None


def choose_column(
    candidates: Sequence[str],
    data: str,
    wanted: str | None,
    kind: str,
    option: str,
    present: Sequence[str] = (),
) -> str:
    """The requested column, in any case, or the only one of its kind: "image" or "text"."""
    if wanted is not None:
        found = [c for c in candidates if c == wanted] or [c for c in candidates if c.lower() == wanted.lower()]
        if not found:
            valid = first_names(candidates) or "none"
            has = f"; it has {first_names(present)}" if present else ""
            raise TaskError(f"{option} '{wanted}' is not a column of {kind}s in {data}; valid: {valid}{has}")
        return found[0]
    if not candidates:
        has = f"it has {first_names(present)}" if present else f"expected {FORMS}"
        raise TaskError(f"--task.data '{data}' has no {kind} column; {has}")
    if len(candidates) > 1:
        raise TaskError(f"{data} has several {kind} columns ({first_names(candidates)}): choose one with {option}")
    return candidates[0]
