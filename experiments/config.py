"""The configuration of a run: adapter, task and training settings, and how its defaults are resolved."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from adapters.base import Adapter, adapter_registry
from experiments.errors import UsageError, check_names, did_you_mean
from tasks.base import Task, task_registry
from tasks.distributed import num_launched

LRScheduler = Literal["constant", "linear", "cosine", "cosine_with_restarts", "polynomial"]
MixedPrecision = Literal["no", "bf16", "fp16"]


@dataclass(frozen=True)
class Train:
    """Training settings, which every method shares. Defaults of None come from the card of the base."""

    steps: int | None = None
    """Optimizer steps."""
    epochs: int | None = None
    """Passes over the training data, an alternative to steps."""
    batch_size: int | None = None
    """Micro-batch size per process. N processes of size b match one process of size N*b, except for dropout masks."""
    num_processes: int = 1
    """Number of data-parallel processes, set by torchrun: torchrun --nproc_per_node 2 -m experiments.run ..."""
    learning_rate: float | None = None
    """Peak learning rate of AdamW."""
    lr_scheduler: LRScheduler | None = None
    """Learning-rate schedule after warmup."""
    warmup_steps: int | None = None
    """Steps of linear learning-rate warmup."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW."""
    optimizer: Literal["adamw", "adamw-fused", "adamw-8bit"] = "adamw"
    """AdamW, AdamW with a fused kernel, or AdamW with 8-bit moments (bitsandbytes, Dettmers et al. 2021)."""
    ema_decay: float | None = None
    """Decay, for example 0.9999, of an exponential moving average of the trained parameters; the run evaluates and
    saves the averaged weights. Default: no average."""
    gradient_accumulation_steps: int = 1
    """Number of micro-batches whose gradients are averaged in one optimizer step."""
    max_grad_norm: float = 1.0
    """Clip gradients to this total norm."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, which saves memory and takes more time."""
    mixed_precision: MixedPrecision | None = None
    """Autocast dtype of the forward pass; weights stay in fp32. Default: the base's card on CUDA, "no" elsewhere."""
    checkpointing_steps: int | None = None
    """Steps between checkpoints, from which an interrupted run resumes. Default: the base's card, else 100."""
    validation_steps: int | None = None
    """Steps between validation losses. Default: a tenth of the steps."""
    seed: int = 0
    """Seed of everything random in the run: initialisation, data order, noise."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to run on; "auto" uses CUDA if there is a GPU."""
    deterministic: bool = False
    """Use only bit-reproducible algorithms on CUDA (slower); on a CPU they always are."""
    report_to: Literal["none", "tensorboard", "wandb"] = "none"
    """Experiment tracker that also logs the steps, through accelerate."""


def with_settings(train: Train | None, settings: Mapping[str, Any]) -> Train:
    """`train`, or the defaults, with some fields changed. Raises UsageError for an unknown field."""
    check_names(settings, (f.name for f in fields(Train)), "Train")
    return replace(train or Train(), **settings)


@dataclass(frozen=True)
class ResolvedTrain(Train):
    """Training settings as the loop, the optimizer and the cost models read them: every default filled in.

    The length is a number of steps (`epochs` is None), and `ema_decay` None means no average. The defaults below apply
    if neither the user nor the card of the base sets a value.
    """

    steps: int = 1000
    batch_size: int = 8
    learning_rate: float = 1e-4
    lr_scheduler: LRScheduler = "constant"
    warmup_steps: int = 0
    mixed_precision: MixedPrecision = "no"
    checkpointing_steps: int = 100
    validation_steps: int = 100

    @classmethod
    def of(cls, train: Train, train_items: int | None = None) -> ResolvedTrain:
        """The settings of a resolved configuration, with epochs converted to steps of `train_items` items.

        The last batch of an epoch is filled from the next epoch. Raises UsageError if a setting has no value, or if
        epochs are requested of a task that does not know its number of items.
        """
        settings = asdict(train)
        if train.epochs is not None:
            settings |= {"epochs": None, "steps": _steps_of_epochs(train, train_items)}
        settings["validation_steps"] = _validation_steps(replace(train, steps=settings["steps"]))
        missing = [name for name in cls.__annotations__ if settings[name] is None]
        if missing:
            raise UsageError(f"training settings without a value: {', '.join(missing)}; call RunConfig.resolved()")
        return cls(**settings)

    @classmethod
    def of_steps(cls, train: Train, steps: int) -> ResolvedTrain:
        """The settings of this number of steps, whatever the length: converting epochs would need the data."""
        return cls.of(replace(train, steps=steps, epochs=None))


def _validation_steps(train: Train) -> int | None:
    """The user's, else a tenth of the steps; None while the number of steps is unknown."""
    if train.validation_steps is not None or train.steps is None:
        return train.validation_steps
    return max(1, train.steps // 10)


def _steps_of_epochs(train: Train, train_items: int | None) -> int:
    if train_items is None:
        raise UsageError("this task has no epochs because it does not know its number of items: give --train.steps")
    assert train.epochs is not None
    assert train.batch_size is not None, "the configuration is not resolved"
    per_step = train.batch_size * train.gradient_accumulation_steps * train.num_processes
    return train.epochs * math.ceil(train_items / per_step)


FALLBACK = {
    name: getattr(ResolvedTrain(), name) for name in ResolvedTrain.__annotations__ if name != "validation_steps"
}
LENGTHS = ("steps", "epochs")  # a resolved configuration sets exactly one
MINIMUM = {
    "steps": 0,
    "epochs": 1,
    "batch_size": 1,
    "warmup_steps": 0,
    "weight_decay": 0,
    "gradient_accumulation_steps": 1,
    "checkpointing_steps": 1,
    "validation_steps": 1,
    "seed": 0,
}
WITHOUT_EFFECT = ("checkpointing_steps", "report_to")  # training settings that do not change the result
FINGERPRINT_DEFAULTS = Train(mixed_precision="no")  # values that a fingerprint omits


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

    def resolved(self) -> RunConfig:
        """The configuration with every default filled in: the user's value, else the card's, else the fallback.

        On a CPU a task may reduce its defaults to what a CPU can do (`Task.on_cpu`). Raises UsageError for a value
        that cannot work.
        """
        card = self.task.recommended(self.adapter.label)
        _check_card(card)
        recommended = FALLBACK | card
        if self.train.steps is not None and "steps" in card:  # a short training has a short warmup
            recommended["warmup_steps"] = round(recommended["warmup_steps"] * min(1, self.train.steps / card["steps"]))
        if any(getattr(self.train, length) is not None for length in LENGTHS):
            recommended |= dict.fromkeys(LENGTHS)
        elif "epochs" in card:
            recommended["steps"] = None
        task = self.task
        if not _on_cuda(self.train, recommended["mixed_precision"]):
            recommended["mixed_precision"], task = FALLBACK["mixed_precision"], task.on_cpu()
        open_fields = {name: value for name, value in recommended.items() if getattr(self.train, name) is None}
        train = replace(self.train, num_processes=_num_processes(self.train), **open_fields)
        train = replace(train, validation_steps=_validation_steps(train))
        _check_train(train)
        return replace(self, task=task, train=train)

    def as_record(self) -> dict[str, Any]:
        """All settings, for the record."""
        return {
            "adapter": {"name": self.adapter.name} | asdict(self.adapter),
            "task": {"name": self.task.name} | asdict(self.task),
            "train": asdict(self.train),
        }

    def identity(self) -> dict[str, Any]:
        """What identifies this run: its size, and every setting that can change the result and is not at its default.

        Its hash is the run's fingerprint. Settings at their defaults are omitted, so that a setting added by a later
        release does not rename finished runs.
        """
        default = RunConfig(type(self.adapter)(), type(self.task)(), FINGERPRINT_DEFAULTS).as_record()
        always = ("name", self.adapter.size_field)
        return {
            part: {
                name: value
                for name, value in settings.items()
                if name in always or (name not in WITHOUT_EFFECT and value != default[part][name])
            }
            for part, settings in self.as_record().items()
        }

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


def _on_cuda(train: Train, precision: str) -> bool:
    """Whether the run will use CUDA; imports torch only if the card recommends mixed precision."""
    if train.device != "auto" or precision == FALLBACK["mixed_precision"]:
        return train.device == "cuda"
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


def _check_train(train: Train) -> None:
    for name, least in MINIMUM.items():
        value = getattr(train, name)
        if value is not None and not value >= least:  # also true of NaN
            raise UsageError(f"--train.{name.replace('_', '-')} must be at least {least}, not {value}")
    if train.steps is not None and train.epochs is not None:
        raise UsageError("give --train.steps or --train.epochs, not both")
    if train.ema_decay is not None and not 0 < train.ema_decay < 1:
        raise UsageError(f"--train.ema-decay must be above 0 and below 1, not {train.ema_decay}")
    if train.optimizer == "adamw-8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            "--train.optimizer adamw-8bit needs bitsandbytes, which is not installed: pip install bitsandbytes, "
            "or choose adamw-fused"
        )
    if train.learning_rate is None or not 0 < train.learning_rate <= 10:
        raise UsageError(f"--train.learning-rate must be above 0 and at most 10, not {train.learning_rate}")
    if not train.max_grad_norm > 0:
        raise UsageError(f"--train.max-grad-norm must be above 0, not {train.max_grad_norm}")
