"""What the settings of all tasks with a pretrained base share: one name per base, and what their content is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tasks.bundled.bundled_bases import FOLDERS
from tasks.pretrained.published.shapes import short_name

LARGEST_ITEMS = 10**6  # of items: larger values are typing errors


class PretrainedSettings(ABC):
    """A mixin for dataclasses with the fields `base` and `data`."""

    name: ClassVar[str]
    base: str
    data: str

    def __post_init__(self) -> None:
        if not Path(self.base).is_dir():
            object.__setattr__(self, "base", short_name(self.base))  # one base, one name in all records

    def content_digests(self) -> Mapping[str, str]:
        """The base's revision and a digest of the data, by setting; none for data that the settings identify."""
        digests = {"data": self.data_digest(), "base": self.base_revision()}
        return {name: digest for name, digest in digests.items() if digest is not None}

    def searched_rate(self, adapter: str, size: int | None, settings: Mapping[str, Any]) -> tuple[float, str] | None:
        from tasks.pretrained.learning_rates import FILE, read_searches, searched_rate

        searches = read_searches(FOLDERS.get(self.base, Path(self.base)) / FILE)
        return searched_rate(searches, self.base_revision, self.name, adapter, size, settings)

    @abstractmethod
    def base_revision(self) -> str:
        """The hub's commit, or a digest of all files of the base. Raises TaskError if it is not available."""

    @abstractmethod
    def data_digest(self) -> str | None:
        """Digest of the data; None if the name identifies the data. Raises TaskError if they are not available."""
