"""Values of any setting on a sweep's command line: `--vary train.learning-rate 1e-4 1e-3 --vary lora.targets all`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapters.base import adapter_registry
from experiments.cli.hints import spelled_out
from experiments.cli.overrides import parsed_setting
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.sweeping.grid import Axis, changed, check_part, field_of, part_of

ELSEWHERE = {  # settings that another option of a sweep varies or that one machine decides
    "train.seed": "seeds are given with --seeds",
    "train.num_processes": "it is the number of processes that torchrun starts",
}


def axis_of_words(words: Sequence[str]) -> Axis:
    """The axis of `--vary SETTING VALUE [VALUE ...]`; a value is what `--SETTING` takes in `experiments.run`.

    Several words of one value are quoted: "query value". Raises UsageError for an unknown part or too few words; for an
    unknown setting or an invalid value when the axis is used, since the methods and the task have their own settings.
    """
    setting, *texts = words or [""]
    part, dot, name = setting.partition(".")
    if not dot or not texts:
        raise UsageError(
            "expected --vary SETTING VALUE [VALUE ...], for example --vary train.learning-rate 1e-4 1e-3, not "
            f"'--vary {' '.join(words)}'{_full_name(setting) if not dot else ''}"
        )
    check_part(part, f"--vary {setting}")
    name = _spelled_out(part, name)
    if f"{part}.{name}" in ELSEWHERE:
        raise UsageError(f"--vary {setting}: {ELSEWHERE[f'{part}.{name}']}")
    return Axis((f"{part}.{name}",), lambda config: _variants(config, part, name, texts))


def _variants(config: RunConfig, part: str, name: str, texts: Sequence[str]) -> list[RunConfig]:
    owner = part_of(config, part)
    if owner is None:
        return [config]  # of another method
    try:
        values = [parsed_setting(type(owner), field_of(part), name, text) for text in texts]
    except UsageError as error:
        only = "; --vary METHOD.SETTING varies one method's" if part == "adapter" else ""
        raise UsageError(f"--vary {part}.{name.replace('_', '-')}: {error}{only}") from None
    return [changed(config, f"{part}.{name}", value) for value in values]


def _spelled_out(part: str, name: str) -> str:
    """A setting's own name for what people type first (`lr`), as in other commands."""
    owner = Train if part == "train" else adapter_registry().get(part)
    if owner is not None:
        word = spelled_out([f"--{part}.{name}"], {part: owner})[0]
        name = word.removeprefix(f"--{part}.")
    return name.replace("-", "_")


def _full_name(name: str) -> str:
    """The hint at the training setting that a name without its part means."""
    word = spelled_out([f"--{name}"], {"train": Train})[0].removeprefix("--")
    return f" (did you mean '{word}'?)" if word.startswith("train.") else ""


def refuse_overlap(axes: Mapping[str, Axis], fixed: Mapping[str, str]) -> None:
    """Raise UsageError if two axes, or an axis and a fixed setting, decide the same setting.

    Each axis has the option that gives it; `fixed` maps settings to the option that fixes or varies them otherwise.
    """
    decided = dict(fixed)
    for option, axis in axes.items():
        for setting in axis.settings:
            other = next((by for name, by in decided.items() if _same(name, setting)), None)
            if other is not None:
                raise UsageError(f"{option} and {other} both set {setting.replace('_', '-')}: leave one of them out")
        decided |= dict.fromkeys(axis.settings, option)


def _same(first: str, second: str) -> bool:
    """Whether two names mean the same setting of some method: "adapter.targets" is every method's."""
    (part, _, name), (other, _, other_name) = first.partition("."), second.partition(".")
    of_methods = field_of(part) == field_of(other) == "adapter"
    return name == other_name and (part == other or (of_methods and "adapter" in (part, other)))
