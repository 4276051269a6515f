"""The training settings that every method shares, and their values when nothing is left open."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from adapters.bounds import LARGEST_COUNT, bounded, violations
from experiments.errors import UsageError, check_names

LRScheduler = Literal["constant", "linear", "cosine", "cosine_with_restarts", "polynomial"]
MixedPrecision = Literal["no", "bf16", "fp16"]
LARGEST_BATCH = 10**6
LARGEST_RATE = 10
LARGEST_SEED = 2**32 - 1  # numpy's generators take no larger one
NEEDED_PACKAGES = {  # by setting and value: the package, and what to do without it
    ("optimizer", "adamw-8bit"): (
        "bitsandbytes",
        'pip install bitsandbytes (or "adapter-testbed[quantised]"), or choose adamw-fused',
    ),
    ("report_to", "tensorboard"): ("tensorboard", 'pip install "adapter-testbed[trackers]"'),
    ("report_to", "wandb"): ("wandb", 'pip install "adapter-testbed[trackers]"'),
}


@dataclass(frozen=True)
class Train:
    """Training settings, which every method shares. Defaults of None come from the card of the base."""

    steps: int | None = bounded(None, at_least=0, at_most=LARGEST_COUNT)
    """Optimizer steps."""
    epochs: int | None = bounded(None, at_least=1, at_most=LARGEST_COUNT)
    """Passes over the training data, an alternative to steps."""
    batch_size: int | None = bounded(None, at_least=1, at_most=LARGEST_BATCH)
    """Micro-batch size per process. N processes of size b match one process of size N*b, except for dropout masks."""
    num_processes: int = bounded(1, at_least=1, at_most=LARGEST_BATCH)
    """Number of data-parallel processes, set by torchrun: torchrun --nproc_per_node 2 -m experiments.run ..."""
    learning_rate: float | None = bounded(None, above=0, at_most=LARGEST_RATE)
    """Peak learning rate of AdamW."""
    lr_scheduler: LRScheduler | None = None
    """Learning-rate schedule after warmup."""
    warmup_steps: int | None = bounded(None, at_least=0, at_most=LARGEST_COUNT)
    """Steps of linear learning-rate warmup."""
    weight_decay: float = bounded(0.0, at_least=0, at_most=1000)
    """Decoupled weight decay of AdamW: every step multiplies what trains by 1 - learning rate * weight decay. A method
    with a higher rate shrinks more, which is why the default is 0 for all."""
    optimizer: Literal["adamw", "adamw-fused", "adamw-8bit"] = "adamw"
    """AdamW, AdamW with a fused kernel, or AdamW with 8-bit moments (bitsandbytes, Dettmers et al. 2021)."""
    ema_decay: float | None = bounded(None, above=0, below=1)
    """Decay, for example 0.9999, of an exponential moving average of the trained parameters; the run evaluates and
    saves the averaged weights. Default: no average."""
    gradient_accumulation_steps: int = bounded(1, at_least=1, at_most=LARGEST_BATCH)
    """Number of micro-batches whose gradients are averaged in one optimizer step."""
    max_grad_norm: float = bounded(1.0, above=0, at_most=1e18)
    """Clip gradients to this total norm."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, which saves memory and takes more time."""
    mixed_precision: MixedPrecision | None = None
    """Dtype that the model computes in (autocast), in training and evaluation; "no" is fp32. Frozen weights are stored
    in it (see --task.base-precision), what trains is fp32. Default on CUDA: bf16 where the GPU has it, else fp16; on a
    CPU "no"."""
    checkpointing_steps: int | None = bounded(None, at_least=1, at_most=LARGEST_COUNT)
    """Steps between checkpoints, from which an interrupted run resumes. Default: the base's card, else 100. Those of a
    gigabyte or more are saved less often if they would take more than 3 % of the time."""
    validation_steps: int | None = bounded(None, at_least=1, at_most=LARGEST_COUNT)
    """Steps between validation losses. Default: a tenth of the steps."""
    evaluate_every: int | None = bounded(None, at_least=1, at_most=LARGEST_COUNT)
    """Steps between evaluations during training, of --train.evaluate-share of the test items (always the same ones):
    curves in curve.jsonl, each figure with its n. The training does not change, nor does it stop early; the record says
    at which step validation loss and primary metric were best. Default: none."""
    evaluate_share: float = bounded(0.1, above=0, at_most=1)
    """Share of the evaluation's items that --train.evaluate-every measures; at least 2, of pictures at least 10."""
    log_every: int = bounded(10, at_least=1, at_most=LARGEST_COUNT)
    """Steps after which a GPU's losses and gradient norms are read together, since reading waits for the GPU; logged
    for each step. A CPU need not wait: there each step is read at once."""
    compile: bool = False
    """Compile the model's blocks with torch.compile for training: minutes at the start, then faster steps."""
    seed: int = bounded(0, at_least=0, at_most=LARGEST_SEED)
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
    def of(cls, train: Train) -> ResolvedTrain:
        """The settings of a resolved configuration whose length is in steps. Complete settings are returned unchanged.

        Raises UsageError if a setting has no value, as with epochs (`RunConfig.for_items` converts them), or if a
        single step is all warmup.
        """
        if isinstance(train, ResolvedTrain):
            return train
        train = replace(train, validation_steps=validation_steps(train))
        settings = asdict(train)
        missing = [name for name in cls.__annotations__ if settings[name] is None]
        if missing:
            raise UsageError(
                f"training settings without a value: {', '.join(missing)}; call RunConfig.resolved() and "
                "RunConfig.for_items()"
            )
        _check_warmup(train)
        return cls(**settings)

    @classmethod
    def of_steps(cls, train: Train, steps: int) -> ResolvedTrain:
        """The settings of this number of steps, for their costs: without warmup, without converting epochs."""
        return cls.of(replace(train, steps=steps, epochs=None, warmup_steps=0))


def validation_steps(train: Train) -> int | None:
    """The user's, else a tenth of the steps; None while the number of steps is unknown."""
    if train.validation_steps is not None or train.steps is None:
        return train.validation_steps
    return max(1, train.steps // 10)


def _check_warmup(train: Train) -> None:
    """A warmup starts at a learning rate of 0, so that one step of it trains nothing."""
    if train.steps == 1 and train.warmup_steps:
        raise UsageError(
            f"--train.warmup-steps {train.warmup_steps} covers the only training step, whose learning rate "
            "would be 0: give --train.warmup-steps 0, or more steps"
        )


def steps_of_epochs(train: Train, epochs: int, train_items: int | None) -> int:
    """Number of optimizer steps with the batches of `train`. Raises UsageError if `train_items` is not known."""
    if train_items is None:
        raise UsageError("this task has no epochs because it does not know its number of items: give --train.steps")
    assert train.batch_size is not None, "the configuration is not resolved"
    per_step = train.batch_size * train.gradient_accumulation_steps * train.num_processes
    return epochs * math.ceil(train_items / per_step)


def check_train(train: Train) -> None:
    """Raise UsageError for settings that cannot work, on any task."""
    if wrong := violations(train, "train"):
        raise UsageError(wrong)
    if train.steps is not None and train.epochs is not None:
        raise UsageError("give --train.steps or --train.epochs, not both")
    _check_warmup(train)
    for (name, value), (package, advice) in NEEDED_PACKAGES.items():
        if getattr(train, name) == value and importlib.util.find_spec(package) is None:
            raise UsageError(
                f"--train.{name.replace('_', '-')} {value} needs {package}, which is not installed: {advice}"
            )


FALLBACK = {
    name: getattr(ResolvedTrain(), name) for name in ResolvedTrain.__annotations__ if name != "validation_steps"
}
