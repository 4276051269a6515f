"""Searches in the folder of a base: `learning_rates.json`, from which `Task.searched_rate` takes the default rates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.config import RunConfig, Train, changed_settings, size_of
from experiments.errors import UsageError
from experiments.records.folder import write_json
from experiments.sweeping.jobs import describe_adapter
from experiments.sweeping.learning_rates import SeedGroup
from tasks.pretrained.learning_rates import read_searches

OF_THE_BASE = ("base", "allow_pickle")  # settings of a task
SAME = ("task", "method", "size", "settings")  # one search for each combination


def check_saving(groups: Sequence[SeedGroup], file: Path) -> None:
    """Before the searches: raise UsageError for a task or a training that is not the default one (on the chosen base),
    to which alone the rates will apply; and TaskError if the file holds something else.
    """
    read_searches(file)
    for group in groups:
        for config in group.configs:
            _check_defaults(config)


def save_searches(groups: Sequence[SeedGroup], file: Path) -> list[str]:
    """Write the finished searches into the file, in place of those of the same settings.

    Returns why others have no rate. Raises TaskError if the file holds something else.
    """
    searches, without_rate = read_searches(file), []
    for group in groups:
        try:
            entry = _entry(group)
        except UsageError as reason:
            without_rate.append(f"{group.configs[0].task.name} {describe_adapter(group.adapter)}: {reason}")
            continue
        searches = [other for other in searches if any(other[name] != entry[name] for name in SAME)]
        searches.append(entry)
    searches.sort(key=lambda entry: json.dumps([entry[name] for name in SAME], sort_keys=True))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"searches": searches})
    return without_rate


def _entry(group: SeedGroup) -> dict[str, Any]:
    config, search = group.configs[0], group.outcome()
    assert search is not None, "the group has no search"
    return {
        "task": config.task.name,
        "method": config.adapter.label,
        "size": size_of(config.adapter),
        "settings": changed_settings(config.adapter),
        "base_revision": config.content["task"].get("base"),
        "batch_size": config.train.batch_size,
        **search,
    }


def _check_defaults(config: RunConfig) -> None:
    base: dict[str, Any] = {name: getattr(config.task, name) for name in OF_THE_BASE if hasattr(config.task, name)}
    fresh = RunConfig(config.adapter, type(config.task)(**base), Train(device=config.train.device)).resolved()
    train = replace(config.train, learning_rate=fresh.train.learning_rate, seed=fresh.train.seed)
    if (config.task, train) != (fresh.task, fresh.train):
        raise UsageError(
            "--save-rates is for the default task and training settings: leave out --task.* (but --task.base) and "
            "--train.* (but --train.device and --train.learning-rate, around which the search begins)"
        )
