"""What people type first: short forms that are accepted, and hints for options that have another name here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from experiments.cli.errors import stop
from experiments.errors import did_you_mean
from reports.upgrade import RENAMED_SETTINGS, RENAMED_VALUES

# names in diffusers', transformers' and peft's own scripts: the options that they mean here, by preference
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "r": ("rank", "sizes"),
    "rank": ("sizes",),
    "lora-rank": ("rank", "sizes"),
    "lora-r": ("rank", "sizes"),
    "lora-alpha": ("alpha",),
    "lora-dropout": ("dropout",),
    "target-modules": ("targets",),
    "num-virtual-tokens": ("length",),
    "lr": ("learning-rate",),
    "max-train-steps": ("steps",),
    "max-steps": ("steps",),
    "num-train-epochs": ("epochs",),
    "train-batch-size": ("batch-size",),
    "per-device-train-batch-size": ("batch-size",),
    "lr-scheduler-type": ("lr-scheduler",),
    "lr-warmup-steps": ("warmup-steps",),
    "adam-weight-decay": ("weight-decay",),
    "pretrained-model-name-or-path": ("base",),
    "model-name-or-path": ("base",),
    "model": ("base",),
    "dataset": ("data",),
    "dataset-name": ("data",),
    "train-data-dir": ("data",),
    "instance-data-dir": ("data",),
    "min-snr-gamma": ("snr-gamma",),
    "output": ("runs",),
    "output-dir": ("output", "runs"),
    "out": ("runs",),
    "o": ("output", "runs"),
    "method": ("methods",),
    "metrics": ("extra-metrics",),
    "size": ("sizes",),
    "seed": ("seeds",),
}
# the commands' own options, renamed since the first release; the settings' table is in `reports.upgrade`
RENAMED_OPTIONS: Mapping[str, str] = {
    "again": "overwrite",
    "beams": "num-beams",
    "beside": "other-methods",
    "beside-largest": "other-largest",
    "guidance": "guidance-scale",
    "n": "num-images-per-prompt",
    "new-tokens": "max-new-tokens",
    "no-repeat-ngram": "no-repeat-ngram-size",
    "out": "output",
    "steps": "num-inference-steps",
}
# options of those scripts that are not one setting here
HINTS: Mapping[str, str] = {
    "fp16": "use --train.mixed-precision fp16",
    "bf16": "use --train.mixed-precision bf16",
    "fp32": "--train.mixed-precision no computes in fp32",
    "use-ema": "use --train.ema-decay, for example 0.9999",
    "use-8bit-adam": "use --train.optimizer adamw-8bit",
    "resume": "an interrupted run resumes when the same command is given again",
    "resume-from-checkpoint": "an interrupted run resumes when the same command is given again",
    "scale-lr": "give the rate itself with --train.learning-rate",
}


def spelled_out(arguments: Sequence[str], parts: Mapping[str, Any], options: type | None = None) -> list[str]:
    """The command line with short forms spelled out: `--rank 8` and `-r 8` become `--adapter.rank 8`.

    An option without a prefix is one of the command's own, else the only setting of that name in method, task and
    training. `parts` are their classes by prefix.
    """
    own = set() if options is None else set(_names(options))
    return [_spelled_out(word, parts, own) for word in arguments]


def _spelled_out(word: str, parts: Mapping[str, Any], own: set[str]) -> str:
    option, equals, value = word.partition("=")
    if not option.startswith("-") or option in ("-", "--", "-h", "--help") or option[1:2].isdigit():
        return word
    prefix, dot, name = option.lstrip("-").replace("_", "-").rpartition(".")
    candidates = [name, *SYNONYMS.get(name, ())]
    if not dot:
        for candidate in candidates:
            if {candidate, candidate.removeprefix("no-")} & own:
                return f"--{candidate}{equals}{value}"
    for candidate in candidates:
        owners = _owners(candidate, prefix, parts)
        if len(owners) == 1:
            return f"--{owners[0]}.{candidate}{equals}{value}"
    return word


def _names(cls: type) -> list[str]:
    return [f.name.replace("_", "-") for f in fields(cls)]  # pyright: ignore[reportArgumentType]


def _owners(name: str, prefix: str, parts: Mapping[str, Any]) -> list[str]:
    """The prefixes of the parts that have the setting; only `prefix` is considered if it is not empty."""
    accepted = {name, name.removeprefix("no-")}
    return [key for key, part in parts.items() if prefix in ("", key) and accepted & set(_names(part))]


def refuse_renamed(arguments: Sequence[str], parts: Mapping[str, Any], options: type) -> None:
    """End the program if an option or a value has its name of an earlier release, and no meaning today."""
    own = _names(options)
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if not word.startswith("--"):
            continue
        option, equals, value = word.partition("=")
        option = option.replace("_", "-")
        prefix, _, name = option.removeprefix("--").rpartition(".")
        if not prefix and name not in own and RENAMED_OPTIONS.get(name) in own:
            stop(f"{option} is called --{RENAMED_OPTIONS[name]} now")
        if not prefix and name in (*own, *SYNONYMS):
            continue
        owners = _owners(name, prefix, parts)
        for key in owners:
            _refuse_renamed_value(option, key, name, value if equals else following)
        for key in () if owners else parts:
            if prefix in ("", key):
                _refuse_renamed_setting(option, key, name, _names(parts[key]))


def _refuse_renamed_setting(option: str, prefix: str, name: str, valid: Sequence[str]) -> None:
    renamed = RENAMED_SETTINGS.get(prefix, {}).get(name.replace("-", "_"), "").replace("_", "-")
    if renamed in valid:
        stop(f"{option} is called --{prefix}.{renamed} now")


def _refuse_renamed_value(option: str, prefix: str, name: str, value: str) -> None:
    renamed = RENAMED_VALUES.get((prefix, name.replace("-", "_")), {}).get(value)
    if renamed is not None:
        stop(f"{option} {value} is called {option} {renamed} now")


def refuse_unknown(
    unknown: Sequence[str], arguments: Sequence[str], parts: Mapping[str, Any], options: type, help_command: str
) -> NoReturn:
    """End the program for words that no option takes, with what was probably meant."""
    word = unknown[0]
    if not word.startswith("-"):
        stop(_surplus_value(word, arguments, parts, help_command))
    option = word.split("=")[0].replace("_", "-")
    prefix, _, name = option.lstrip("-").rpartition(".")
    hint = _hint(prefix, name, parts, options)
    if hint is not None:
        stop(f"unknown option '{option}': {hint}")
    for candidate in (name, *SYNONYMS.get(name, ())):
        owners = _owners(candidate, prefix, parts)
        if len(owners) > 1:
            meant = " or ".join(f"--{owner}.{candidate}" for owner in owners)
            stop(f"option '{option}' is ambiguous here: use {meant}")
    valid = {f"--{key}.{setting}": setting for key, part in parts.items() for setting in _names(part)}
    valid |= {f"--{setting}": setting for setting in _names(options)}
    if prefix in parts:
        valid = {spelled: setting for spelled, setting in valid.items() if spelled.startswith(f"--{prefix}.")}
    stop(f"unknown option '{option}'{_nearest(name, valid)}; all options: {help_command}")


def _hint(prefix: str, name: str, parts: Mapping[str, Any], options: type) -> str | None:
    """What a method, a task or this module says of the option; None if nothing."""
    for part in parts.values():
        hint = getattr(part, "option_hints", {}).get(name.replace("-", "_"))
        if hint is not None:
            return hint
    if prefix == "adapter" and "adapter" not in parts and "set" in _names(options):
        return f"settings of one method are given as --set METHOD.{name}=VALUE, sizes as --sizes"
    return HINTS.get(name)


def _nearest(name: str, valid: Mapping[str, str]) -> str:
    """did_you_mean by the names without prefix, which says the option with its prefix."""
    hint = did_you_mean(name, valid.values())
    return next((hint.replace(f"'{s}'", f"'{spelled}'") for spelled, s in valid.items() if f"'{s}'" in hint), "")


def _surplus_value(word: str, arguments: Sequence[str], parts: Mapping[str, Any], help_command: str) -> str:
    """The sentence for a value too many: after an option that takes one value, or after no option at all."""
    before = arguments[: list(arguments).index(word)]
    option = next((each for each in reversed(before) if each.startswith("-")), None)
    if option is None:
        return f"unexpected word '{word}'; all options: {help_command}"
    adapter = parts.get("adapter")
    if adapter is not None and option == f"--adapter.{adapter.size_field}":
        task = parts["task"].name if "task" in parts else "TASK"
        sizes = f"python -m experiments.sweep {task} --methods {adapter.name} --sizes ..."
        return f"{option} takes one value, not '{word}' too; several sizes are a sweep: {sizes}"
    return f"{option} takes one value, not '{word}' too; all options: {help_command}"
