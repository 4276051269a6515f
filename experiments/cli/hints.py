"""What people type first: short forms that are accepted, and hints for options that have another name here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from experiments.cli.errors import stop
from experiments.errors import did_you_mean
from reports.upgrade import RENAMED_SETTINGS

# names of diffusers', transformers' and peft's own scripts, and the setting that they stand for here
SYNONYMS = {
    "r": "rank",
    "lora-rank": "rank",
    "lora-r": "rank",
    "lora-alpha": "alpha",
    "lora-dropout": "dropout",
    "target-modules": "targets",
    "num-virtual-tokens": "length",
    "lr": "learning-rate",
    "max-train-steps": "steps",
    "max-steps": "steps",
    "num-train-epochs": "epochs",
    "train-batch-size": "batch-size",
    "per-device-train-batch-size": "batch-size",
    "lr-scheduler-type": "lr-scheduler",
    "lr-warmup-steps": "warmup-steps",
    "adam-weight-decay": "weight-decay",
    "pretrained-model-name-or-path": "base",
    "model-name-or-path": "base",
    "model": "base",
    "dataset": "data",
    "dataset-name": "data",
    "train-data-dir": "data",
    "instance-data-dir": "data",
    "min-snr-gamma": "snr-gamma",
    "output": "runs",
    "output-dir": "runs",
    "o": "runs",
}


def spelled_out(arguments: Sequence[str], parts: Mapping[str, Any], options: type) -> list[str]:
    """The command line with short forms spelled out: `--rank 8` and `-r 8` become `--adapter.rank 8`.

    An option without a prefix is the command's own, else the only setting of method, task or training of that name.
    `parts` are the method, task and training settings by their prefix.
    """
    own = {f.name.replace("_", "-") for f in fields(options)}
    return [_spelled_out(word, parts, own) for word in arguments]


def _spelled_out(word: str, parts: Mapping[str, Any], own: set[str]) -> str:
    option, equals, value = word.partition("=")
    if not option.startswith("-") or option in ("-", "--", "-h", "--help") or option[1:2].isdigit():
        return word
    prefix, dot, name = option.lstrip("-").replace("_", "-").rpartition(".")
    if not dot and name in own:
        return word
    name = name if _owners(name, prefix, parts) or name in own else SYNONYMS.get(name, name)
    if not dot and name in own:
        return f"--{name}{equals}{value}"
    owners = _owners(name, prefix, parts)
    return f"--{owners[0]}.{name}{equals}{value}" if len(owners) == 1 else word


def _owners(name: str, prefix: str, parts: Mapping[str, Any]) -> list[str]:
    """The parts, by prefix, that have the setting; only `prefix` where one is given."""
    plain = name.removeprefix("no-")
    return [
        key
        for key, part in parts.items()
        if part is not None and prefix in ("", key) and {name, plain} & {f.name.replace("_", "-") for f in fields(part)}
    ]


def refuse_renamed(arguments: Sequence[str], parts: Mapping[str, Any]) -> None:
    """End the program where an option has its name of an earlier release."""
    for word in arguments:
        option = word.split("=")[0].replace("_", "-")
        if option == "--again":
            stop("--again is called --overwrite now")
        prefix, _, name = option.removeprefix("--").rpartition(".")
        renamed = RENAMED_SETTINGS.get(prefix, {}).get(name.replace("-", "_"))
        valid = [f.name for f in fields(parts[prefix])] if parts.get(prefix) is not None else []
        if renamed is not None and name.replace("-", "_") not in valid:
            stop(f"{option} is called --{prefix}.{renamed.replace('_', '-')} now")


def refuse_unknown(
    unknown: Sequence[str], arguments: Sequence[str], parts: Mapping[str, Any], options: type, help_command: str
) -> NoReturn:
    """End the program for words that no option takes, with what was probably meant."""
    word = unknown[0]
    if not word.startswith("-"):
        stop(_surplus_value(word, arguments, parts, help_command))
    option = word.split("=")[0].replace("_", "-")
    prefix, _, name = option.lstrip("-").rpartition(".")
    for part in parts.values():
        hint = getattr(part, "option_hints", {}).get(name.replace("-", "_"))
        if hint is not None:
            stop(f"unknown option '{option}': {hint}")
    owners = {key: part for key, part in parts.items() if part is not None}
    valid = [f"--{key}.{f.name.replace('_', '-')}" for key, part in owners.items() for f in fields(part)]
    valid += [f"--{f.name.replace('_', '-')}" for f in fields(options)]
    same_part = [other for other in valid if other.startswith(f"--{prefix}.")] if prefix in owners else valid
    stop(f"unknown option '{option}'{did_you_mean(option, same_part)}; all options: {help_command}")


def _surplus_value(word: str, arguments: Sequence[str], parts: Mapping[str, Any], help_command: str) -> str:
    """The sentence for a value too many: after an option that takes one value, or after no option at all."""
    before = arguments[: list(arguments).index(word)]
    option = next((each for each in reversed(before) if each.startswith("-")), None)
    if option is None:
        return f"unexpected word '{word}'; all options: {help_command}"
    adapter = parts.get("adapter")
    if adapter is not None and option == f"--adapter.{adapter.size_field}":
        task = parts["task"].name if parts.get("task") is not None else "TASK"
        sizes = f"python -m experiments.sweep {task} --methods {adapter.name} --sizes ..."
        return f"{option} takes one value, not '{word}' too; several sizes are a sweep: {sizes}"
    return f"{option} takes one value, not '{word}' too; all options: {help_command}"
