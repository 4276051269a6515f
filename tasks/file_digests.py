"""Digests of files: those of large files are computed once, until the file changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path

from tasks.atomic import replacing
from tasks.cache import cache_folder, digest

LARGE = 2**22  # bytes; reading a smaller file is faster than looking it up
SETTLED = 5  # seconds since its last change after which a file's digest is stored: clocks of file systems are coarse


def file_sha256(file: Path) -> bytes:
    """The SHA-256 of a file's content, of a large file by its path, size and time of change."""
    status = file.stat()
    if status.st_size < LARGE:
        return hashlib.sha256(file.read_bytes()).digest()
    state = [str(file.resolve()), status.st_size, status.st_mtime_ns]
    stored = cache_folder() / "file-digests" / f"{digest(state[0].encode())}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(stored.read_text())
        if known["state"] == state:
            return bytes.fromhex(known["sha256"])
    with file.open("rb") as content:
        computed = hashlib.file_digest(content, "sha256").digest()
    if time.time() - status.st_mtime > SETTLED:
        with contextlib.suppress(OSError):
            stored.parent.mkdir(parents=True, exist_ok=True)
            with replacing(stored) as temporary:
                temporary.write_text(json.dumps({"state": state, "sha256": computed.hex()}))
    return computed


def file_digest(*files: Path) -> str:
    """Digest of the files' contents, in the order given."""
    total = hashlib.sha256()
    for file in files:
        total.update(file_sha256(file))
    return total.hexdigest()[:24]


def named_digest(folder: Path, files: Iterable[Path]) -> str:
    """Digest of the contents of a folder's files and of their names in it, in the order given."""
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.relative_to(folder).as_posix()}\0".encode() + file_sha256(file))
    return total.hexdigest()[:24]
