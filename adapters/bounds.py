"""Bounds of numeric settings, declared where the setting is: `rank: int = bounded(4, at_least=1)`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any

BOUNDS = "bounds"  # key of a field's metadata
LARGEST_WIDTH = 2**16  # above the widest layer of published models: larger values are typing errors
LARGEST_COUNT = 10**12


@dataclass(frozen=True)
class Bounds:
    """The valid values of a number, or of each number in a mapping; `words` are valid instead of a number."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    words: tuple[str, ...] = ()

    def hold(self, value: Any) -> bool:
        """Whether the value is a number within the bounds, or one of the words; false for NaN."""
        if isinstance(value, str):
            return value in self.words
        number: Any = value if isinstance(value, Real) else math.nan
        return (
            number == number
            and (self.at_least is None or number >= self.at_least)
            and (self.above is None or number > self.above)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        limits = {
            "at least": self.at_least,
            "above": self.above,
            "at most": self.at_most,
            "below": self.below,
        }
        numbers = " and ".join(f"{word} {limit}" for word, limit in limits.items() if limit is not None)
        return " or ".join([numbers, *(f"'{word}'" for word in self.words)])


def bounded(default: float | tuple[int, ...] | None, **limits: Any) -> Any:
    """A dataclass field whose number, or each number of a tuple, has the `Bounds`; None is always valid."""
    return field(default=default, metadata={BOUNDS: Bounds(**limits)})


def violations(settings: Any, part: str) -> str | None:
    """One sentence that names every setting of a dataclass outside its bounds, as options `--PART.SETTING`; or None.

    `part` is empty for options without a prefix.
    """
    return "; ".join(_violations(settings, part)) or None


def _violations(settings: Any, part: str) -> Iterator[str]:
    for setting in fields(settings):
        bounds = setting.metadata.get(BOUNDS)
        value = getattr(settings, setting.name)
        numbers = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else [value]
        if bounds is not None and not all(number is None or bounds.hold(number) for number in numbers):
            option = ".".join(filter(None, [part, setting.name.replace("_", "-")]))
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            yield f"--{option} must be {bounds}, not {shown}"
