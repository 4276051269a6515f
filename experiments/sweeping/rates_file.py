"""Searches in the folder of a base: `learning_rates.json`, from which `Task.searched_rate` takes the default rates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.base import Adapter
from experiments.config import RunConfig, Train, changed_settings
from experiments.errors import UsageError
from experiments.records.folder import write_json
from experiments.sweeping.learning_rates import SeedGroup

SAME = ("task", "method", "size", "settings")  # one search for each combination


def save_searches(groups: Sequence[SeedGroup], file: Path) -> str:
    """Write the finished searches into the file, in place of those of the same settings; returns what was done.

    Raises UsageError for a task or a training that is not the default one, or if the file holds something else.
    """
    searches, unfinished = read_searches(file), []
    for group in groups:
        try:
            entry = _entry(group)
        except UsageError as reason:
            unfinished.append(f"{group.configs[0].task.name} {group.adapter.name}: {reason}")
            continue
        searches = [other for other in searches if any(other[name] != entry[name] for name in SAME)]
        searches.append(entry)
    searches.sort(key=lambda entry: json.dumps([entry[name] for name in SAME], sort_keys=True))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"searches": searches})
    written = f"{len(groups) - len(unfinished)} searches written to {file}"
    return "\n  ".join([written, *unfinished])


def read_searches(file: Path) -> list[dict[str, Any]]:
    """The searches in the file; none if there is no file. Raises UsageError if it holds something else."""
    if not file.exists():
        return []
    try:
        return list(json.loads(file.read_text())["searches"])
    except (OSError, ValueError, TypeError, KeyError):
        raise UsageError(f"'{file}' does not hold searches of learning rates: give --save-rates another file") from None


def _entry(group: SeedGroup) -> dict[str, Any]:
    config, search = group.configs[0], group.outcome()
    assert search is not None, "the group has no search"
    _check_defaults(config)
    return {
        "task": config.task.name,
        "method": config.adapter.label,
        "size": _size(config.adapter),
        "settings": changed_settings(config.adapter),
        "base_revision": config.content["task"].get("base"),
        "batch_size": config.train.batch_size,
        **search,
    }


def _size(adapter: Adapter) -> int | None:
    return None if adapter.size_field is None else getattr(adapter, adapter.size_field)


def _check_defaults(config: RunConfig) -> None:
    """Raise UsageError unless task and training are the default ones: only for these the rates are recommended."""
    fresh = RunConfig(config.adapter, type(config.task)(), Train(device=config.train.device)).resolved()
    train = replace(config.train, learning_rate=fresh.train.learning_rate, seed=fresh.train.seed)
    if (config.task, train) != (fresh.task, fresh.train):
        raise UsageError("--save-rates is for the default task and training settings: leave out --task.* and --train.*")
