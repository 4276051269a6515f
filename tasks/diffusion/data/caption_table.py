"""A table of captions beside pictures: metadata.jsonl, captions.csv and their like."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.bad_items import first_names
from tasks.diffusion.data.caption_files import FORMS, Row, choose_column
from tasks.diffusion.data.picture_folder import PictureFolder
from tasks.errors import TaskError, first_line
from tasks.tables import read_csv, read_json_lines, read_json_mapping

TABLES = ("metadata.jsonl", "metadata.csv", "metadata.json", "captions.jsonl", "captions.csv", "captions.json")
PICTURE_COLUMNS = ("file_name", "filename", "file", "image", "path")  # the first that a table has names its pictures
NAMED_PICTURES = "_file_name"  # end of the names of further columns of pictures, as for the library `datasets`


@dataclass(frozen=True)
class CaptionTable:
    """The rows of one or several files, each with the folder that its file names are relative to."""

    files: Sequence[Path]
    rows: Sequence[tuple[Path, Mapping[str, Any]]]

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(name for _, row in self.rows for name in row))

    def image_column(self, data: str, wanted: str | None) -> str:
        """The column of file names: `wanted`, in any case, may also be the name that `datasets` gives to it.

        Raises TaskError if there is none, or several.
        """
        columns, pictures = self.columns, _picture_columns(self.columns)
        names = {_dataset_name(column): column for column in reversed(pictures)}
        names |= {column.lower(): column for column in columns}
        if wanted is not None and wanted.lower() in names:
            return names[wanted.lower()]
        if not pictures:
            raise TaskError(
                f"'{self.files[0]}' has the columns {first_names(columns)}, none of which names the pictures; "
                f"expected {FORMS}"
            )
        return choose_column(pictures, data, wanted, "image", "--task.image-column")

    def caption_column(self, data: str, wanted: str | None, image_column: str) -> str:
        """Raises TaskError if there is no column of text beside the one of pictures, or several."""
        others = [column for column in self.columns if column != image_column and not _names_pictures(column)]
        texts = [column for column in others if _is_text(row.get(column) for _, row in self.rows)]
        present = [f"{column} ({_type_of(row.get(column) for _, row in self.rows)})" for column in others]
        return choose_column(texts, data, wanted, "text", "--task.caption-column", present)

    def captioned(self, folder: PictureFolder, image_column: str, caption_column: str) -> list[Row]:
        """The rows of training pictures. Raises TaskError for a file name that is missing or outside of the folder."""
        rows = [Row(*_named(folder.root, at, row.get(image_column)), row.get(caption_column)) for at, row in self.rows]
        return [row for row in rows if isinstance(row.source, Path) and folder.is_for_training(row.source)]


def find_table(folder: PictureFolder) -> CaptionTable | None:
    """The table of captions, which may be spread over subfolders; None if the folder has none.

    Raises TaskError if it cannot be read or has no rows.
    """
    for name in TABLES:
        files = [file for file in folder.files if file.name.lower() == name and folder.describes_training(file)]
        if files:
            rows = [(file.parent, row) for file in files for row in _rows_of(file, folder)]
            if not rows:
                raise TaskError(f"'{files[0]}' has no rows; expected {FORMS}")
            return CaptionTable(files, rows)
    return None


def _rows_of(file: Path, folder: PictureFolder) -> list[dict[str, Any]]:
    try:
        if file.suffix.lower() == ".csv":
            return read_csv(file)
        by_picture = read_json_mapping(file) if file.suffix.lower() == ".json" else None
        return read_json_lines(file) if by_picture is None else _kohya_rows(by_picture, file, folder)
    except (OSError, ValueError, RecursionError) as broken:
        reason = first_line(broken)
        raise TaskError(f"the captions in '{file}' cannot be read ({reason}); expected {FORMS}") from None


def _kohya_rows(by_picture: Mapping[str, Any], file: Path, folder: PictureFolder) -> list[dict[str, Any]]:
    """The rows of kohya's {"cat": {"caption": "a cat"}}, whose keys may lack the pictures' suffixes."""
    by_stem = {str(picture.relative_to(file.parent).with_suffix("")): picture for picture in _below(folder, file)}
    names = {stem: str(picture.relative_to(file.parent)) for stem, picture in by_stem.items()}
    return [{**values, "file_name": names.get(key, key)} for key, values in by_picture.items()]


def _below(folder: PictureFolder, table: Path) -> list[Path]:
    return [picture for picture in folder.pictures if picture.is_relative_to(table.parent)]


def _named(root: Path, folder: Path, name: Any) -> tuple[str, Path]:
    """A picture's name in its table, and its file."""
    if not isinstance(name, str) or not name.strip():
        raise TaskError(f"--task.data '{root}' has a row without the name of a picture: add it or remove the row")
    file = Path(os.path.normpath(folder / name.strip().replace("\\", "/")))
    if not file.is_relative_to(os.path.normpath(root)):
        raise TaskError(f"--task.data '{root}' names the picture '{name}', which is outside of it: move it there")
    relative = file.relative_to(os.path.normpath(root))
    return str(relative), root / relative


def _picture_columns(columns: Sequence[str]) -> list[str]:
    by_name = {column.lower(): column for column in reversed(columns)}
    usual = [by_name[name] for name in PICTURE_COLUMNS if name in by_name][:1]
    return usual + [column for column in columns if column.lower().endswith(NAMED_PICTURES)]


def _names_pictures(column: str) -> bool:
    return column.lower() in PICTURE_COLUMNS or column.lower().endswith(NAMED_PICTURES)


def _dataset_name(column: str) -> str:
    """The name that `datasets` gives to the pictures of a column of file names, in lower case."""
    lower = column.lower()
    return lower.removesuffix(NAMED_PICTURES) if lower.endswith(NAMED_PICTURES) else "image"


def _is_text(values: Iterable[Any]) -> bool:
    """Whether a column has text: not numbers (of which a CSV file has the digits), and not nothing at all."""
    present = [value for value in values if value is not None]
    return bool(present) and all(isinstance(v, str) for v in present) and not all(map(_is_number, present))


def _type_of(values: Iterable[Any]) -> str:
    """What a column has that is not text, as people call it."""
    present = [value for value in values if value is not None]
    if not present or all(isinstance(value, str) and not value.strip() for value in present):
        return "empty"
    if all(isinstance(value, str) and not _is_number(value) for value in present):
        return "text"
    if all(isinstance(value, (int, float)) or (isinstance(value, str) and _is_number(value)) for value in present):
        return "numbers"
    names = {str: "text", list: "lists", dict: "objects"}
    return " and ".join(dict.fromkeys(names.get(type(value), "numbers") for value in present))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
