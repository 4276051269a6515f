"""Default learning rates that a search has found on a base: `learning_rates.json` in its folder.

`python -m experiments.sweep ... --search-lr 5 --save-rates FILE` writes the file: {"searches": [...]}, one entry for
each task, method, size and settings (those of the method that are not at their defaults). An entry also has the
revision of the base, `chosen` (the rate) and all trials of the search.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tasks.errors import TaskError

FILE = "learning_rates.json"


class Search(msgspec.Struct):
    """What an entry must have: the fields that are read here."""

    task: str
    method: str
    size: int | None
    settings: dict[str, Any]
    base_revision: str | None
    chosen: Annotated[float, msgspec.Meta(gt=0)]


def searched_rate(
    searches: list[dict[str, Any]],
    revision: Callable[[], str],
    task: str,
    adapter: str,
    size: int | None,
    settings: Mapping[str, Any],
) -> tuple[float, str] | None:
    """The rate chosen for a method of this size, and how it was found; None if the method was not searched on this
    revision of the base.

    "search": this size was searched with these settings. "interpolated": two sizes around it were (log rate over log
    size). "nearest": the rate is that of the nearest size, or of a search without some of the settings; of several
    such searches, those with the most settings in common count.
    """
    same = [entry for entry in searches if (entry["task"], entry["method"]) == (task, adapter)]
    same = [entry for entry in same if entry["settings"].items() <= settings.items()]
    if not same or not (same := [entry for entry in same if entry["base_revision"] == revision()]):
        return None
    closest = max((entry["settings"] for entry in same), key=len)
    rate, source = _at({entry["size"]: entry["chosen"] for entry in same if entry["settings"] == closest}, size)
    return None if rate is None else (rate, source if closest == settings else "nearest")


def read_searches(file: Path) -> list[dict[str, Any]]:
    """The searches in the file; none if there is no file. Raises TaskError if it holds something else."""
    if not file.is_file():
        return []
    try:
        searches = json.loads(file.read_text(encoding="utf-8"))["searches"]
        msgspec.convert(searches, list[Search])
        return searches
    except (OSError, ValueError, TypeError, KeyError) as error:  # msgspec's are ValueErrors
        raise TaskError(
            f"'{file}' does not hold searches of learning rates ({error}): expected what experiments.sweep "
            "--save-rates writes; remove the file to use the card's rates"
        ) from None


def _at(chosen: Mapping[int | None, float], size: int | None) -> tuple[float | None, str]:
    """The rate at a size from those of the sizes that were searched, and how it was found."""
    if size in chosen or size is None or None in chosen:
        return chosen.get(size), "search"
    sizes = sorted(searched for searched in chosen if searched is not None)
    if not sizes[0] < size < sizes[-1]:
        return chosen[sizes[0] if size < sizes[0] else sizes[-1]], "nearest"
    below, above = next((low, high) for low, high in pairwise(sizes) if low < size < high)
    share = math.log(size / below) / math.log(above / below)
    return float(f"{chosen[below] * (chosen[above] / chosen[below]) ** share:.4g}"), "interpolated"
