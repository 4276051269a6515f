"""Identify a base by its files: weights, configuration, tokenizer and scheduler."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tasks.cache import file_digest

READ_BY_LIBRARIES = (".json", ".txt", ".model", ".jinja", ".safetensors", ".bin", ".gguf")
WEIGHTS = (".safetensors", ".bin", ".gguf")
NOT_OF_THE_MODEL = ("recommended.json", "card.json", "held_out.json", "figures.json")  # their settings are in records


def folder_revision(folder: Path, recursive: bool = False) -> str:
    """Digest of the names and contents of every file that a library may load from a base's folder.

    The base's card is excluded: the settings that it recommends are part of a run's configuration. `recursive`
    includes subfolders (diffusers' layout); hidden files and folders never count.
    """
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*") if recursive else folder.glob("*")):
        name = file.relative_to(folder)
        if file.suffix in READ_BY_LIBRARIES and file.name not in NOT_OF_THE_MODEL and not _is_hidden(name):
            with file.open("rb") as content:
                total.update(f"{name.as_posix()}\0".encode() + hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()[:24]


def weights_digest(folder: Path, recursive: bool = False) -> str:
    """Digest of the weights alone, by which records of schema 1 identify a folder."""
    files = folder.rglob("*") if recursive else folder.glob("*")
    return file_digest(*sorted(file for file in files if file.suffix in WEIGHTS))


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)
