"""The files of a folder of pictures, listed once, and which of them are for training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.diffusion.data.open_picture import SUFFIXES

TRAINING = {"train", "training"}  # names of a training split, as for the library `datasets`


@dataclass(frozen=True)
class PictureFolder:
    """A folder's files in order of their names; hidden files and folders never count.

    If there are pictures in a folder called "train", all others belong to other splits.
    """

    root: Path
    files: Sequence[Path]

    @classmethod
    def listed(cls, root: Path) -> PictureFolder:
        found = sorted(file for file in root.rglob("*") if file.is_file())
        return cls(root, [file for file in found if not any(p.startswith(".") for p in file.relative_to(root).parts)])

    @cached_property
    def pictures(self) -> list[Path]:
        """The pictures of all splits."""
        return [file for file in self.files if file.suffix.lower() in SUFFIXES]

    @cached_property
    def has_splits(self) -> bool:
        return any(map(self._in_training_folder, self.pictures))

    def is_for_training(self, file: Path) -> bool:
        """Whether a picture, which need not exist, belongs to the training split."""
        return not self.has_splits or self._in_training_folder(file)

    def describes_training(self, table: Path) -> bool:
        """Whether a table of captions is for training pictures: below its folder, or it is in a training folder."""
        return self.is_for_training(table) or any(
            picture.is_relative_to(table.parent) for picture in self.pictures if self._in_training_folder(picture)
        )

    def _in_training_folder(self, file: Path) -> bool:
        return not TRAINING.isdisjoint(part.lower() for part in file.relative_to(self.root).parts[:-1])

    @cached_property
    def parquet_files(self) -> list[Path]:
        """The parquet files of the training split, by their names, or all if none is named so."""
        tables = [file for file in self.files if file.suffix == ".parquet"]
        return [file for file in tables if self._is_named_training(file)] or tables

    def _is_named_training(self, file: Path) -> bool:
        return not TRAINING.isdisjoint(re.split("[^a-z]+", str(file.relative_to(self.root)).lower()))
