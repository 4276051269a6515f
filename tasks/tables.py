"""Tables that people write by hand: CSV with commas, semicolons or tabs, JSON lines, or a JSON array."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from tasks.bad_items import listed, numbered

DELIMITERS = (",", ";", "\t")


def read_csv(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, as `read_numbered_csv` reads them."""
    return [row for _, row in read_numbered_csv(file)]


def read_numbered_csv(file: Path, keep_spaces: bool = False) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file in UTF-8, each with the number of its first line.

    Rows are by the header's names without spaces around them; missing values are empty. The delimiter is the one that
    the header has most of; rows may end with more of it. Spaces after a delimiter are dropped, unless `keep_spaces`.
    Raises OSError, or ValueError if the file cannot be read, names a column twice or has a row with more values than
    columns.
    """
    with file.open(encoding="utf-8-sig", newline="") as content:
        delimiter = max(DELIMITERS, key=content.readline().count)
        content.seek(0)
        reader = csv.reader(content, delimiter=delimiter, skipinitialspace=not keep_spaces, strict=True)
        try:
            rows, first_line = [], 1
            for row in reader:
                rows.append((first_line, _without_empty_end(row)))
                first_line = reader.line_num + 1
        except csv.Error as broken:
            raise ValueError(f"line {reader.line_num}: {broken}") from None
    if not rows:
        raise ValueError("it is empty")
    names = [name.strip() for name in rows[0][1]]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the header has the column '{repeated[0]}' twice")
    return [(line, _row(names, values, line)) for line, values in rows[1:] if values]


def _without_empty_end(row: list[str]) -> list[str]:
    """Spreadsheets end every row with the delimiters of the widest one."""
    while row and not row[-1]:
        row.pop()
    return row


def _row(names: list[str], values: list[str], line: int) -> dict[str, str]:
    if len(values) > len(names):
        raise ValueError(
            f"line {line} has {len(values)} values, the header {len(names)}: put quotes around text that contains the "
            "delimiter"
        )
    return dict(zip(names, [*values, *[""] * (len(names) - len(values))], strict=True))


def read_json_lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a file, as `read_numbered_json` reads them."""
    return [row for _, row in read_numbered_json(file)]


def read_numbered_json(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a file with one per line, each with its line, or with one array of them, each with its position.

    Raises OSError or ValueError, which names the lines, if the file cannot be read.
    """
    text = file.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        values = json.loads(text)
        if not all(isinstance(value, dict) for value in values):
            raise ValueError("its array must contain only objects")
        return list(enumerate(values, start=1))
    # not splitlines: a string of JSON may hold U+2028 and other line separators
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    rows: list[tuple[int, dict[str, Any]]] = []
    broken: dict[int, ValueError] = {}
    for number, line in lines:
        try:
            rows.append((number, _object(line, number)))
        except ValueError as error:
            broken[number] = error
    if broken:
        first, *others = broken
        more = f"; {numbered(len(others), 'more broken line')}{listed([str(number) for number in others])}"
        raise ValueError(f"{broken[first]}{more if others else ''}")
    return rows


def read_json_mapping(file: Path) -> dict[str, dict[str, Any]] | None:
    """A file with one object of objects, by key; None if it has another form. Raises OSError or UnicodeDecodeError."""
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError:
        return None
    is_mapping = isinstance(values, dict) and values and all(isinstance(value, dict) for value in values.values())
    return values if is_mapping else None


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as broken:
        at = f", column {broken.colno}: {broken.msg}" if isinstance(broken, json.JSONDecodeError) else f": {broken}"
        raise ValueError(f"line {number}{at}") from None
    if not isinstance(value, dict):
        raise ValueError(f"line {number} is not an object")
    return value
