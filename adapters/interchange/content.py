"""What `--adapter.init` names: whether it is there, and a digest of its content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from adapters.errors import AdapterError
from adapters.interchange.diffusers_file import DIFFUSERS_FILE
from adapters.interchange.kohya import KOHYA_FILE
from adapters.interchange.native import NATIVE_FILE
from adapters.interchange.peft_folder import PEFT_CONFIG, PEFT_FILE
from adapters.interchange.tensors import adapter_file

WEIGHTS = (NATIVE_FILE, DIFFUSERS_FILE, PEFT_FILE, KOHYA_FILE)


def check_exists(source: Path) -> None:
    """Raise AdapterError unless `source` is a file, or a folder with an adapter's file in it."""
    adapter_file(source, WEIGHTS)


def content_digest(source: Path) -> str:
    """SHA-256 of the adapter's files, wherever they are: a copy has the same digest, a changed file another one.

    Covers every file that a method may read of a folder; other files of a run's folder do not count. Raises
    AdapterError if there is none or if one cannot be read.
    """
    check_exists(source)
    folder = source.parent if source.is_file() else source
    names = [source.name] if source.is_file() else [name for name in WEIGHTS if (folder / name).is_file()]
    digest = hashlib.sha256()
    for position, file in enumerate([*(folder / name for name in names), folder / PEFT_CONFIG]):
        try:
            content = file.read_bytes() if position < len(names) or file.is_file() else b""
        except OSError as error:
            raise AdapterError(f"'{file}' cannot be read ({error.strerror}): check its permissions") from None
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
