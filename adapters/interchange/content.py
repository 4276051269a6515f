"""What `--adapter.init` names: whether it is complete, and a digest of its content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from adapters.errors import AdapterError
from adapters.interchange.diffusers_file import DIFFUSERS_FILE
from adapters.interchange.kohya import KOHYA_FILE
from adapters.interchange.native import NATIVE_FILE
from adapters.interchange.peft_folder import PEFT_CONFIG, PEFT_FILE
from adapters.interchange.tensors import SUFFIX, adapter_file, opened

WEIGHTS = (NATIVE_FILE, DIFFUSERS_FILE, PEFT_FILE, KOHYA_FILE)


def check_file(source: Path) -> None:
    """Raise AdapterError unless `source` is a file, or a folder with an adapter's file in it, and is complete.

    Reads the header only. What the file is for, and a file of another kind, are the method's to check.
    """
    file = adapter_file(source, WEIGHTS)
    if file.suffix == SUFFIX:
        with opened(file):
            pass


def content_digest(source: Path) -> str:
    """SHA-256 of the adapter's files, wherever they are: a copy has the same digest, a changed file another one.

    Covers every file that a method may read of a folder; other files of a run's folder do not count. Raises
    AdapterError if there is none or if one cannot be read.
    """
    adapter_file(source, WEIGHTS)
    folder = source.parent if source.is_file() else source
    names = [source.name] if source.is_file() else [name for name in WEIGHTS if (folder / name).is_file()]
    files = [folder / name for name in names]
    if (folder / PEFT_CONFIG).is_file():
        files.append(folder / PEFT_CONFIG)
    return hashlib.sha256(b"".join(map(_file_digest, files))).hexdigest()


def _file_digest(file: Path) -> bytes:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").digest()
    except OSError as error:
        raise AdapterError(f"'{file}' cannot be read ({error.strerror}): check its permissions") from None
