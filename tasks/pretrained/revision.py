"""Identify a base by its files: weights, configuration, tokenizer and scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.file_digests import file_digest, named_digest

READ_BY_LIBRARIES = (".json", ".txt", ".model", ".jinja", ".safetensors", ".bin", ".gguf")
WEIGHTS = (".safetensors", ".bin", ".gguf")
NOT_OF_THE_MODEL = (
    "recommended.json",
    "card.json",
    "learning_rates.json",
    "held_out.json",
    "figures.json",
)  # a run's fingerprint and its record have the settings that it takes from them


def folder_revision(folder: Path, patterns: Sequence[str] = ("**/*",)) -> str:
    """Digest of the names and contents of the files that a library may load from a base's folder.

    `patterns` select the files that it does load. The base's card is excluded: a run's identity has the settings that
    come from it. Hidden files and folders never count.
    """
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    return named_digest(folder, (file for file in files if _is_of_the_model(file, folder)))


def weights_digest(folder: Path, recursive: bool = False) -> str:
    """Digest of the weights alone, by which records of schema 1 identify a folder."""
    files = folder.rglob("*") if recursive else folder.glob("*")
    return file_digest(*sorted(file for file in files if file.suffix in WEIGHTS))


def _is_of_the_model(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.suffix in READ_BY_LIBRARIES and file.name not in NOT_OF_THE_MODEL and not hidden
