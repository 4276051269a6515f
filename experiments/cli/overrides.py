"""Settings given for several runs at once: those that a command line names, and METHOD.SETTING=VALUE."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, get_type_hints

from adapters.base import method_names
from experiments.cli.json_options import is_json, registry
from experiments.cli.tyro_errors import captured
from experiments.config import RunConfig, registered
from experiments.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Overrides:
    """The task and training settings that a command line names; they override those of a sweep or a study."""

    task_name: str | None = None
    task: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)

    def options(self) -> dict[str, str]:
        """The option that gives each setting, by the setting's dotted name: "train.batch_size"."""
        names = [f"{part}.{name}" for part in ("task", "train") for name in getattr(self, part)]
        return {name: f"--{name.replace('_', '-')}" for name in names}

    def apply(self, config: RunConfig) -> RunConfig:
        """The configuration with these settings."""
        return replace(config, task=replace(config.task, **self.task), train=replace(config.train, **self.train))


def named_settings(option_names: Sequence[str], prefix: str, value: Any) -> dict[str, Any]:
    """The settings of `value`, a dataclass instance, that the option names mention (`--PREFIX.SETTING`)."""
    spelled = {f.name: f.name.replace("_", "-") for f in fields(value)}
    return {
        name: getattr(value, name)
        for name, word in spelled.items()
        if {f"--{prefix}.{word}", f"--{prefix}.no-{word}"} & set(option_names)
    }


def method_settings(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Settings by method from METHOD.SETTING=VALUE, where VALUE is what --adapter.SETTING takes in other commands.

    Raises UsageError for an unknown method or setting, or an invalid value.
    """
    settings: dict[str, dict[str, Any]] = {}
    for word in words:
        target, equals, value = word.partition("=")
        method, dot, setting = target.partition(".")
        if not equals or not dot:
            raise UsageError(f"expected METHOD.SETTING=VALUE, for example lora.alpha=8, not '{word}'")
        cls = registered(method_names(), method, "method")
        setting = setting.replace("-", "_")
        settings.setdefault(method, {})[setting] = parsed_setting(cls, "adapter", setting, value)
    return settings


@cache
def parsed_setting(cls: Any, part: str, setting: str, value: str) -> Any:
    """One setting's value from the text that `--PART.SETTING` takes; `cls` is a method, a task, or `Train`.

    Raises UsageError if the setting is unknown or the value invalid.
    """
    import shlex

    import tyro

    valid = sorted(f.name.replace("_", "-") for f in fields(cls))
    name, spelled = getattr(cls, "name", part), setting.replace("_", "-")
    if spelled not in valid:
        raise UsageError(f"{name} has no setting '{spelled}'{did_you_mean(spelled, valid)}; it has {', '.join(valid)}")
    several = isinstance(getattr(cls(), setting), (tuple, dict)) and not is_json(get_type_hints(cls)[setting])
    try:
        words = [f"--{spelled}", *(shlex.split(value) if several else [value])]
        with captured(io.StringIO()):
            config = (tyro.conf.FlagConversionOff,)
            parsed = tyro.cli(cls, args=words, config=config, registry=registry(), console_outputs=False)
    except (SystemExit, ValueError):
        command = {"adapter": f"{name} TASK", "task": f"METHOD {name}", "train": "METHOD TASK"}[part]
        raise UsageError(
            f"'{value}' is not a value for {name}.{spelled}; see --{part}.{spelled} in "
            f"`python -m experiments.run {command} --help`"
        ) from None
    return getattr(parsed, setting)
