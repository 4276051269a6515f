"""Arguments that several commands take, and how a command that writes files reports them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from reports.errors import ReportError
from reports.text.format import count_text

Format = Literal["terminal", "md", "csv", "latex"]
Task = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]


def report_files(files: Iterable[Path], folder: Path) -> None:
    """Print each file when it is written: drawing many plots takes a minute."""
    count = 0
    for file in files:
        count += 1
        print(file, flush=True)
    if not count:
        raise ReportError("nothing to draw: no finished run has enough data; see `python -m reports table TASK`")
    print(f"{count_text(count, 'file')} in {folder}")
