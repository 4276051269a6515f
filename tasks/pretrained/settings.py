"""What the settings of all tasks with a pretrained base share: one name per base, and checks of minimums."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tasks.errors import TaskError
from tasks.pretrained.published.shapes import short_name


class PretrainedSettings:
    """A mixin for dataclasses with a field `base`."""

    base: str
    minimums: ClassVar[Mapping[str, int]]  # smallest valid values, by field

    def __post_init__(self) -> None:
        if not Path(self.base).is_dir():
            object.__setattr__(self, "base", short_name(self.base))  # one base, one name in all records

    def check_minimums(self) -> None:
        """Raise TaskError for a setting below its minimum; None is valid."""
        for name, minimum in self.minimums.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise TaskError(f"--task.{name.replace('_', '-')} must be at least {minimum}, not {value}")
