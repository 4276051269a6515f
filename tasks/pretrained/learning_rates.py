"""Default learning rates that a search has found on a base: `learning_rates.json` in its folder.

`python -m experiments.sweep ... --search-lr 5 --save-rates FILE` writes the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from tasks.errors import TaskError

FILE = "learning_rates.json"


def searched_rate(folder: Path, task: str, adapter: str, size: int | None, settings: Mapping[str, Any]) -> float | None:
    """The rate chosen for a method of this size with these settings, else with its default settings; None if neither
    was searched.

    Between two searched sizes the rate is interpolated (log rate over log size); beyond them it is that of the nearest.
    """
    searches = [entry for entry in read(folder) if (entry["task"], entry["method"]) == (task, adapter)]
    same = [entry for entry in searches if entry["settings"] == dict(settings)]
    chosen = {entry["size"]: entry["chosen"] for entry in same or searches if entry["settings"] in (settings, {})}
    if size is None or None in chosen:
        return chosen.get(size)
    return _interpolated(chosen, size) if chosen else None


def read(folder: Path) -> list[dict[str, Any]]:
    """The searches in a base's folder. Raises TaskError if the file is not as `experiments.sweep` writes it."""
    file = folder / FILE
    if not file.is_file():
        return []
    try:
        return list(json.loads(file.read_text(encoding="utf-8"))["searches"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TaskError(f"'{file}' cannot be read ({error}): remove it to use the card's learning rates") from None


def _interpolated(chosen: Mapping[int, float], size: int) -> float:
    sizes = sorted(chosen)
    if size <= sizes[0] or size >= sizes[-1]:
        return chosen[sizes[0] if size <= sizes[0] else sizes[-1]]
    below, above = next((low, high) for low, high in pairwise(sizes) if low <= size <= high)
    share = math.log(size / below) / math.log(above / below)
    return float(f"{chosen[below] * (chosen[above] / chosen[below]) ** share:.4g}")
