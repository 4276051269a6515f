"""The configuration of a run: adapter, task and training settings, and how its defaults are resolved."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal

from adapters.base import Adapter, adapter_registry
from experiments.errors import UsageError, check_names, did_you_mean
from experiments.precision import with_default_storage
from experiments.training.settings import (
    FALLBACK,
    ResolvedTrain,
    Train,
    check_train,
    steps_of_epochs,
    validation_steps,
)
from tasks.base import Task, task_registry
from tasks.distributed import num_launched
from tasks.pretrained.precision import half_precision

LENGTHS = ("steps", "epochs")  # a resolved configuration sets exactly one
WITHOUT_EFFECT = ("checkpointing_steps", "log_every", "report_to")  # training settings that do not change the result
FIRST_DEFAULTS = Train(mixed_precision="no", weight_decay=0.01)  # of the first release: a fingerprint omits them


@dataclass(frozen=True)
class RunConfig:
    """One run: an adapter, a task, the training settings."""

    adapter: Adapter
    task: Task
    train: Train = field(default_factory=Train)

    def __post_init__(self) -> None:
        examples = {
            "adapter": ("an", Adapter, "Lora(rank=4)"),
            "task": ("a", Task, "Pokemon()"),
            "train": ("a", Train, "Train(steps=100)"),
        }
        for name, (article, expected, example) in examples.items():
            value = getattr(self, name)
            if not isinstance(value, expected):
                raise UsageError(
                    f"{name} must be {article} {expected.__name__} object such as {example}, not {value!r}"
                )
        object.__setattr__(self, "adapter", self.adapter.resolved())

    def resolved(self, half: Literal["bf16", "fp16"] | None = None) -> RunConfig:
        """The configuration with every default filled in: the user's value, else the card's, else the fallback.

        `half` is the 16-bit dtype of the GPU that it is for, by default of this machine's.

        On a CPU a task may reduce its defaults to what a CPU can do (`Task.on_cpu`). Two settings may wait for the data
        (`for_items`): the steps between validation losses of a training in epochs, and the card's warmup, if the user
        gives the length in steps and the card in epochs or the other way round. Raises UsageError, AdapterError or
        TaskError for a value that cannot work.
        """
        check_train(self.train)
        self.adapter.check_settings()
        card = self._card()
        recommended = FALLBACK | card
        recommended["warmup_steps"] = _warmup_steps(card, self.train)
        if any(getattr(self.train, length) is not None for length in LENGTHS):
            recommended |= dict.fromkeys(LENGTHS)
        elif "epochs" in card:
            recommended["steps"] = None
        task = self.task
        if uses_cuda(self.train):
            recommended["mixed_precision"] = card.get("mixed_precision") or half or half_precision()
        else:
            recommended["mixed_precision"], task = FALLBACK["mixed_precision"], task.on_cpu()
        open_fields = {name: value for name, value in recommended.items() if getattr(self.train, name) is None}
        train = replace(self.train, num_processes=_num_processes(self.train), **open_fields)
        train = replace(train, validation_steps=validation_steps(train))
        check_train(train)
        if train.steps:
            self.adapter.check_steps(train.steps)
        task = with_default_storage(self.adapter, task, train)
        task.check_settings()
        return replace(self, task=task, train=train)

    def for_items(self, train_items: int | None) -> ResolvedTrain:
        """The training settings of a resolved configuration on that many items: epochs are steps, nothing is open.

        The last batch of an epoch is filled from the next epoch. Raises UsageError for epochs of a task that does not
        know its number of items, and as `ResolvedTrain.of` does; AdapterError for a method that needs more steps.
        """
        train = self.train
        if train.epochs is not None:
            train = replace(train, steps=steps_of_epochs(train, train.epochs, train_items), epochs=None)
        if train.warmup_steps is None:
            card = _with_length(self._card())
            if card["epochs"] is not None and train_items is not None:
                card["steps"] = steps_of_epochs(train, card["epochs"], train_items)
            train = replace(train, warmup_steps=_shortened(card["warmup_steps"], train.steps, card["steps"]))
        settings = ResolvedTrain.of(train)
        if settings.steps:
            self.adapter.check_steps(settings.steps)
        return settings

    def _card(self) -> dict[str, Any]:
        """The training settings that the base's card recommends, with the learning rate that was found by search."""
        card, searched = self.task.recommended(self.adapter.label), self._searched_rate()
        _check_card(card)
        return card if searched is None else {**card, "learning_rate": searched[0]}

    def _searched_rate(self) -> tuple[float, str] | None:
        return self.task.searched_rate(self.adapter.label, size_of(self.adapter), changed_settings(self.adapter))

    @property
    def learning_rate_source(self) -> str:
        """Where the learning rate of a resolved configuration comes from.

        From searches on the base: "search" of this size and these settings, "interpolated" between two sizes, or
        "nearest"; else from the base's "card" or the "fallback" for all bases. "user" is any other rate.
        """
        name, card = "learning_rate", self.task.recommended(self.adapter.label)
        default = (card[name], "card") if name in card else (FALLBACK[name], "fallback")
        rate, source = self._searched_rate() or default
        return source if self.train.learning_rate == rate else "user"

    def as_record(self) -> dict[str, Any]:
        """All settings, for the record."""
        return {
            "adapter": {"name": self.adapter.name} | asdict(self.adapter),
            "task": {"name": self.task.name} | asdict(self.task),
            "train": asdict(self.train),
        }

    @cached_property
    def content(self) -> dict[str, dict[str, str]]:
        """Digests of the files that settings name, by part and setting: the data, the base, `--adapter.init`.

        Read once, so that a run's name, its config.json and its record agree. Raises TaskError or AdapterError if the
        files are not available.
        """
        init = self.adapter.init_digest()
        return {"adapter": {} if init is None else {"init": init}, "task": dict(self.task.content_digests())}

    def identity(self) -> dict[str, Any]:
        """What identifies this run's settings: its size, and every setting that can change the result and is not at its
        default, or that the base's card decides.

        The run's fingerprint is its hash, with the content of files in place of their paths. Settings at their first
        defaults are omitted, so that a setting added or a default changed by a later release renames no finished run.
        """
        first = type(self.adapter)(**self.adapter.first_defaults)
        default = RunConfig(first, type(self.task)(), FIRST_DEFAULTS).as_record()
        always = ("name", self.adapter.size_field)
        identity = {
            part: {
                name: value
                for name, value in settings.items()
                if name in always or (name not in WITHOUT_EFFECT and value != default[part][name])
            }
            for part, settings in self.as_record().items()
        }
        identity["task"].update(self.task.settings_of_card())
        if self.train.warmup_steps is None and any(getattr(self.train, length) is not None for length in LENGTHS):
            card = _with_length(self._card())  # it decides the warmup (`for_items`)
            identity["train"]["warmup_steps"] = {name: card[name] for name in ("warmup_steps", *LENGTHS)}
        return identity

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> RunConfig:
        """The configuration that `as_record` wrote. Raises UsageError for an unknown name or an invalid value."""
        try:
            adapter, task, train = (dict(record[part]) for part in ("adapter", "task", "train"))
            method, name = str(adapter.pop("name")), str(task.pop("name"))
        except (KeyError, TypeError, ValueError):
            raise UsageError(
                "not a run configuration: needs `adapter` and `task` (each with a `name`) and `train`"
            ) from None
        adapter_class = registered(adapter_registry(), method, "method")
        task_class = registered(task_registry(), name, "task")
        return cls(_converted(adapter_class, adapter), _converted(task_class, task), _converted(Train, train))


def size_of(adapter: Adapter) -> int | None:
    """The value of the method's size field; None without a size."""
    return None if adapter.size_field is None else getattr(adapter, adapter.size_field)


def changed_settings(adapter: Adapter) -> dict[str, Any]:
    """The settings of a method that are not at their defaults, without its size; as JSON values."""
    default = type(adapter)()
    changed = {f.name: getattr(adapter, f.name) for f in fields(adapter) if f.name != adapter.size_field}
    values = {name: value for name, value in changed.items() if value != getattr(default, name)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def registered(registry: Mapping[str, type], name: str, kind: str) -> Any:
    """The class registered as `name`; `kind` is "method" or "task". Raises UsageError that lists the valid names."""
    if name not in registry:
        raise UsageError(unknown_name(registry, name, kind))
    return registry[name]


def unknown_name(registry: Mapping[str, type], name: str, kind: str) -> str:
    """The message for a name that is not registered: what was probably meant, and the valid names.

    A class's `name_hints` say what to type instead of a name; its `other_names` mean the class itself.
    """
    hints: dict[str, str] = {}
    for valid, cls in registry.items():
        hints |= {other: f"it is called '{valid}' here" for other in getattr(cls, "other_names", ())}
        hints |= getattr(cls, "name_hints", {})
    meant = f" ({hints[name.lower()]})" if name.lower() in hints else did_you_mean(name, registry)
    return f"unknown {kind} '{name}'{meant}; the {kind}s are {', '.join(sorted(registry))}"


def _converted(cls: type, values: Mapping[str, Any]) -> Any:
    """An instance from JSON values, checked against the types that the dataclass declares."""
    import msgspec

    check_names(values, (f.name for f in fields(cls)), cls.__name__)
    try:
        return msgspec.convert(values, cls)
    except msgspec.ValidationError as error:
        raise UsageError(f"the settings of {cls.__name__} are invalid ({error}): correct the configuration") from None


def _num_processes(train: Train) -> int:
    """The number of processes that torchrun has launched."""
    if train.num_processes not in (1, num_launched()):
        raise UsageError(
            f"--train.num-processes {train.num_processes} differs from the number launched, {num_launched()}: use "
            f"torchrun --nproc_per_node {train.num_processes} -m experiments.run ..."
        )
    return num_launched()


def uses_cuda(train: Train) -> bool:
    """Whether the run will use CUDA; imports torch only if the installed one may have CUDA."""
    if train.device != "auto":
        return train.device == "cuda"
    if "torch" not in sys.modules and version("torch").endswith("+cpu"):
        return False
    import torch

    return torch.cuda.is_available()


def _check_card(recommended: Mapping[str, Any]) -> None:
    valid = [f.name for f in fields(Train)]
    unknown = sorted(set(recommended) - set(valid))
    if unknown:
        raise UsageError(
            f"the base's card recommends '{unknown[0]}', which is not a training setting"
            f"{did_you_mean(unknown[0], valid)}: correct the card"
        )


def _with_length(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card's warmup and length, in steps or epochs; the other one is None."""
    warmup_steps, epochs = card.get("warmup_steps", FALLBACK["warmup_steps"]), card.get("epochs")
    steps = card.get("steps", FALLBACK["steps"] if epochs is None else None)
    return {"warmup_steps": warmup_steps, "steps": steps, "epochs": epochs}


def _warmup_steps(card: Mapping[str, Any], train: Train) -> int | None:
    """The card's warmup, in proportion for a training that is shorter than the card's.

    None while that is unknown: one length is in steps and the other in epochs.
    """
    whole = _with_length(card)
    given = [length for length in LENGTHS if getattr(train, length) is not None]
    if not given or not whole["warmup_steps"]:
        return whole["warmup_steps"]
    length = given[0]
    if whole[length] is None:
        return None
    return _shortened(whole["warmup_steps"], getattr(train, length), whole[length])


def _shortened(warmup_steps: int, length: int | None, whole: int | None) -> int:
    """A warmup in proportion for a training that is shorter than `whole`; if that is unknown, short of the training."""
    if length is None:
        return warmup_steps
    return min(warmup_steps, max(0, length - 1)) if whole is None else round(warmup_steps * min(1, length / whole))
