"""Digests of files: a process reads a file once, until it changes; the digests of large files are also stored."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tasks.atomic import replacing
from tasks.cache import cache_folder, digest

LARGE = 2**22  # bytes from which a digest is stored for other processes
SETTLED = 5  # seconds since its last change after which a file's digest is reused: clocks of file systems are coarse


def file_sha256(file: Path) -> bytes:
    """The SHA-256 of a file's content, read once until its path, size, time of change or inode changes."""
    status = file.stat()
    if time.time() - status.st_mtime <= SETTLED:
        return _sha256(file)
    return _settled_sha256(os.path.abspath(file), status.st_size, status.st_mtime_ns, status.st_ino)


def _sha256(file: Path) -> bytes:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


@cache
def _settled_sha256(path: str, size: int, mtime_ns: int, inode: int) -> bytes:
    """The digest of a file in this state; of a large file also from an earlier process."""
    if size < LARGE:
        return _sha256(Path(path))
    state = [path, size, mtime_ns, inode]
    stored = cache_folder() / "file-digests" / f"{digest(path.encode())}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(stored.read_text())
        if known["state"] == state:
            return bytes.fromhex(known["sha256"])
    computed = _sha256(Path(path))
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
