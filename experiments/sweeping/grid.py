"""The runs of a sweep: methods x sizes x seeds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.base import Adapter
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from tasks.base import Task

SEEDS = (0, 1, 2)


def sized(method: type[Adapter], sizes: Sequence[int], settings: Mapping[str, Any]) -> list[Adapter]:
    """The method at each size; once if it has no size to vary."""
    default, size_field = method(), method.size_field
    if not sizes:
        return [default]
    if size_field is None or getattr(default, size_field) is None:
        print(f"{method.name} has no size to vary: it runs once per seed")
        return [default]
    if size_field in settings:
        raise UsageError(f"--sizes varies {method.name}.{size_field}: leave it out of --set, or leave out --sizes")
    return [replace(default, **{size_field: size}) for size in sizes]


def crossed(
    tasks: Sequence[Task], seeds: Sequence[int], adapters: Sequence[Adapter], train: Train | None = None
) -> list[RunConfig]:
    """Every adapter on every task with every seed; the first seed of all adapters comes first."""
    settings = train or Train()
    return [
        RunConfig(adapter, task, replace(settings, seed=seed))
        for task, seed, adapter in itertools.product(tasks, seeds, adapters)
    ]


def resolved(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """The configurations with defaults filled in, without duplicates; reads no data."""
    filled = [config.resolved() for config in configs]
    return list({json.dumps(config.identity(), sort_keys=True, default=str): config for config in filled}.values())
