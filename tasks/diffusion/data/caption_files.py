"""Folders of pictures with captions as people write them: a table of file names, or a text beside each picture."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.diffusion.data.open_picture import SUFFIXES
from tasks.errors import TaskError
from tasks.tables import read_csv, read_json_lines

TABLES = ("metadata.jsonl", "metadata.csv", "metadata.json", "captions.jsonl", "captions.csv", "captions.json")
TEXTS = (".txt", ".caption")  # beside each picture, as kohya's scripts read them
PICTURE_COLUMNS = ("file_name", "filename", "file", "image", "path")
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
    """A picture, as a file or its content, and its caption, if it has one; `name` identifies it in messages."""

    name: str
    source: Path | bytes
    caption: Any


@dataclass(frozen=True)
class CaptionTable:
    """Rows of `columns` by name; `picture_columns` maps the name of a column of pictures to that of its file names."""

    files: Sequence[Path]
    rows: Sequence[tuple[Path, Mapping[str, Any]]]  # with the folder that file names are relative to
    picture_columns: Mapping[str, str]
    text_columns: Sequence[str]

    def captioned(self, root: Path, image_column: str, caption_column: str) -> list[Row]:
        """Raises TaskError for a file name that is missing or leads out of the folder."""
        names = [(folder, row.get(self.picture_columns[image_column]), row) for folder, row in self.rows]
        return [Row(*_named(root, folder, name), row.get(caption_column)) for folder, name, row in names]


def _named(root: Path, folder: Path, name: Any) -> tuple[str, Path]:
    """A picture's name in its table, and its file."""
    if not isinstance(name, str) or not name.strip():
        raise TaskError(f"--task.data '{root}' has a row without the name of a picture: add it or remove the row")
    file = Path(os.path.normpath(folder / name.strip().replace("\\", "/")))
    if not file.is_relative_to(os.path.normpath(root)):
        raise TaskError(f"--task.data '{root}' names the picture '{name}', which is outside of it: move it there")
    return str(file.relative_to(os.path.normpath(root))), file


def picture_files(folder: Path) -> list[Path]:
    """All pictures below a folder, in order of their names; hidden files and folders never count."""
    return [file for file in visible_files(folder) if file.suffix.lower() in SUFFIXES]


def visible_files(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def find_table(folder: Path) -> CaptionTable | None:
    """The table of captions, which may be spread over subfolders; None if the folder has none.

    Raises TaskError if it cannot be read or does not name pictures.
    """
    files = visible_files(folder)
    for name in TABLES:
        found = [file for file in files if file.name.lower() == name]
        training = [file for file in found if file.relative_to(folder).parts[0].lower() == "train"]
        if found:
            return _read_table(folder, training if training and found[0].parent != folder else found)
    return None


def _read_table(folder: Path, files: Sequence[Path]) -> CaptionTable:
    rows = [(file.parent, row) for file in files for row in _rows_of(file)]
    if not rows:
        raise TaskError(f"'{files[0]}' has no rows; expected {FORMS}")
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    named = {_shown(column): column for column in columns if _names_pictures(column)}
    if not named:
        raise TaskError(
            f"'{files[0]}' has the columns {', '.join(columns)}, none of which names the pictures; expected {FORMS}"
        )
    others = [column for column in columns if column not in named.values()]
    return CaptionTable(files, rows, named, [c for c in others if _is_text(row.get(c) for _, row in rows)])


def _rows_of(file: Path) -> list[dict[str, Any]]:
    try:
        return read_csv(file) if file.suffix == ".csv" else read_json_lines(file)
    except (OSError, ValueError, RecursionError) as broken:
        reason = str(broken).splitlines()[0]
        raise TaskError(f"the captions in '{file}' cannot be read ({reason}); expected {FORMS}") from None


def _names_pictures(column: str) -> bool:
    return column in PICTURE_COLUMNS or column.endswith("_file_name")


def _shown(column: str) -> str:
    """A column of file names by the name that `datasets` gives to its column of pictures."""
    return column.removesuffix("_file_name") if column.endswith("_file_name") else "image"


def _is_text(values: Iterable[Any]) -> bool:
    """Whether a column has text: not numbers (of which a CSV file has the digits), and not nothing at all."""
    present = [value for value in values if value is not None]
    return bool(present) and all(isinstance(v, str) for v in present) and not all(map(_is_number, present))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def texts_beside(folder: Path, pictures: Sequence[Path]) -> list[Row]:
    """The pictures that have a text file of the same name beside them, with its text."""
    rows = []
    for picture in pictures:
        file = next((f for suffix in TEXTS if (f := picture.with_suffix(suffix)).is_file()), None)
        if file is not None:
            rows.append(Row(str(picture.relative_to(folder)), picture, _text_of(file)))
    return rows


def _text_of(file: Path) -> str:
    try:
        return " ".join(file.read_text(encoding="utf-8-sig").split())
    except (OSError, ValueError) as broken:
        raise TaskError(f"the caption '{file}' cannot be read ({broken}): save it in UTF-8") from None


def choose_column(
    candidates: Sequence[str],
    data: str,
    wanted: str | None,
    kind: str,
    option: str,
    present: Sequence[str] = (),
) -> str:
    """The requested column, or the only one of its kind: "image" or "text"."""
    if wanted is not None and wanted not in candidates:
        valid = ", ".join(candidates) or "none"
        raise TaskError(f"{option} '{wanted}' is not a column of {kind}s in {data}; valid: {valid}")
    if wanted is None and not candidates:
        has = f"it has {', '.join(present)}" if present else f"expected {FORMS}"
        raise TaskError(f"--task.data '{data}' has no {kind} column; {has}")
    if wanted is None and len(candidates) > 1:
        raise TaskError(f"{data} has several {kind} columns ({', '.join(candidates)}): choose one with {option}")
    return wanted or candidates[0]
