"""The runs of a sweep: methods x sizes x seeds x whatever else it varies."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from adapters.base import Adapter, adapter_registry, method_names
from experiments.config import RunConfig, Train
from experiments.errors import UsageError, check_names, did_you_mean
from tasks.base import Task

SEEDS = (0, 1, 2)
PARTS = ("adapter", "task", "train")  # of a configuration, before the dot of a setting's name


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


@dataclass(frozen=True)
class Axis:
    """What a sweep varies: `variants` turns a configuration into those with each value.

    `settings` names it: "train.learning_rate", "task.resolution", "adapter.targets", or "lora.targets" if only that
    method is varied.
    """

    settings: tuple[str, ...]
    variants: Callable[[RunConfig], Sequence[RunConfig]]


def axis_of(setting: str, values: Sequence[Any]) -> Axis:
    """The axis of one setting, such as "train.learning_rate".

    Raises UsageError for an unknown part; on its use, if the configuration has no such setting.
    """
    part = setting.partition(".")[0]
    check_part(part, f"cannot vary '{setting}'")

    def variants(config: RunConfig) -> list[RunConfig]:
        if part_of(config, part) is None:
            return [config]
        return [changed(config, setting, value) for value in values]

    return Axis((setting,), variants)


def check_part(part: str, what: str) -> None:
    """Raise UsageError, beginning with `what`, for a part that is neither the name of a method nor in PARTS.

    A preset, such as `dora`, is no method by the time that settings vary.
    """
    valid = [*PARTS, *adapter_registry()]
    if part in method_names().keys() - valid:
        preset = method_names()[part]
        size = "" if preset.size_field is None else "vary its size with --sizes, and "
        raise UsageError(
            f"{what}: {part} runs as {preset.preset_of}: {size}set others with --set {part}.SETTING=VALUE, a sweep for "
            "each value"
        )
    if part not in valid:
        raise UsageError(
            f"{what}: unknown part '{part}'{did_you_mean(part, valid)}; expected train, task, adapter or the name of a "
            "method"
        )


def names_of(axes: Iterable[Axis]) -> tuple[str, ...]:
    """The settings of all axes, in order."""
    return tuple(dict.fromkeys(setting for axis in axes for setting in axis.settings))


def varied(configs: Sequence[RunConfig], axes: Sequence[Axis]) -> list[RunConfig]:
    """The cross product of configurations and axes; seeds stay outermost."""
    for axis in axes:
        configs = [variant for config in configs for variant in axis.variants(config)]
    return list(configs)


def changed(config: RunConfig, setting: str, value: Any) -> RunConfig:
    """The configuration with another value of one setting. Raises UsageError if there is no such setting."""
    part, _, name = setting.partition(".")
    owner = part_of(config, part)
    check_names([name], [f.name for f in fields(owner)], type(owner).__name__)
    return replace(config, **{field_of(part): replace(owner, **{name: value})})


def field_of(part: str) -> str:
    """The field of a configuration that holds the part: that of a method's name is the adapter."""
    return part if part in PARTS else "adapter"


def part_of(config: RunConfig, part: str) -> Any:
    """The adapter, task or training settings; the adapter by its method's name too, None for another method's."""
    if part in PARTS:
        return getattr(config, part)
    return config.adapter if config.adapter.name == part else None


def values_of(config: RunConfig, settings: Sequence[str]) -> dict[str, Any]:
    """The configuration's value of each setting that it has."""
    split = [(setting, *setting.split(".", 1)) for setting in settings]
    owners = [(setting, part_of(config, part), name) for setting, part, name in split]
    return {setting: getattr(owner, name) for setting, owner, name in owners if hasattr(owner, name)}


def resolved(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """The configurations with defaults filled in, without duplicates; reads no data."""
    filled = [config.resolved() for config in configs]
    return list({json.dumps(config.identity(), sort_keys=True, default=str): config for config in filled}.values())
