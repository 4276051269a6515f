"""Atomic file writes: a reader sees the old file or the complete new one, never a part of it."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

WRITING = ".writing"  # suffix of files that are not complete yet


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success, rename it over `file`.

    Contents and name are flushed to disk before the block ends, so a crash cannot leave an empty or partial `file`.
    If the block raises, the temporary file is removed and `file` is unchanged.
    """
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}{WRITING}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(file)
        _flush(file.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _flush(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk; some systems cannot open a folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
