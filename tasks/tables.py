"""Tables that people write by hand: CSV with commas, semicolons or tabs, JSON lines, or a JSON array."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

DELIMITERS = (",", ";", "\t")


def read_csv(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file in UTF-8, by the header's names without spaces around them; missing values are empty.

    The delimiter is the one that the header has most of. Raises OSError or ValueError if the file cannot be read.
    """
    with file.open(encoding="utf-8-sig", newline="") as content:
        delimiter = max(DELIMITERS, key=content.readline().count)
        content.seek(0)
        try:
            header, *rows = csv.reader(content, delimiter=delimiter, strict=True)
        except csv.Error as broken:
            raise ValueError(str(broken)) from None
        except ValueError as empty:
            raise ValueError(str(empty) if isinstance(empty, UnicodeError) else "it is empty") from None
    names = [name.strip() for name in header]
    padding = [""] * len(names)
    return [dict(zip(names, [*row, *padding], strict=False)) for row in rows if row]


def read_json_lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a file with one per line, or with one array of them.

    Raises OSError or ValueError, which names the line, if the file cannot be read.
    """
    text = file.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        values = json.loads(text)
        if not all(isinstance(value, dict) for value in values):
            raise ValueError("its array holds something else than objects")
        return values
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            rows.append(_object(line, number))
    return rows


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as broken:
        raise ValueError(f"line {number}: {broken}") from None
    if not isinstance(value, dict):
        raise ValueError(f"line {number} is not an object")
    return value
