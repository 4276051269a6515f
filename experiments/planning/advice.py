"""What to change so that a run fits a GPU that is too small for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from experiments.config import RunConfig
from experiments.planning.memory_plan import Plan, plan


def to_fit(first: Plan, memory: float, say: Callable[[str], object] = lambda text: None) -> list[str]:
    """Lines with changes, each made on top of those before, until the run fits so many GiB."""
    if first.needed <= memory:
        return []
    words, lines = [], [f"it needs {first.needed:.2f} GiB of {memory:g}; changes, each on top of the one before:"]
    current = first
    for change, config in changes(first):
        say(f"predicting with {change}")
        current = plan(config(current.config), first.settings)
        words.append(change)
        lines.append(f"  {change}: {current.needed:.2f} GiB")
        if current.needed <= memory:
            lines[-1] += ", which fits"
            return lines
    return [*lines, "  nothing of this fits: choose a smaller base"]


Change = tuple[str, Callable[[RunConfig], RunConfig]]


def changes(first: Plan) -> Iterator[Change]:
    """The command line's words and the change that they make, those that cost least first."""
    train, training_first = first.train, first.prediction.training.peak >= first.evaluation_peak
    if training_first and train.batch_size > 1:
        yield "--train.batch-size 1 --train.gradient-accumulation-steps N", _train(batch_size=1)
    if training_first and not train.gradient_checkpointing:
        yield "--train.gradient-checkpointing", _train(gradient_checkpointing=True)
    if training_first and train.optimizer != "adamw-8bit":
        yield "--train.optimizer adamw-8bit", _train(optimizer="adamw-8bit")
    size = first.config.task.input_size_field
    if size is not None:
        half = first.prediction.shapes[size] // 2
        yield f"--task.{size.replace('_', '-')} {half}", lambda c: replace(c, task=replace(c.task, **{size: half}))


def _train(**settings: Any) -> Callable[[RunConfig], RunConfig]:
    return lambda config: replace(config, train=replace(config.train, **settings))


def surprises(result: Plan) -> Iterator[str]:
    """Sentences about what a reader would not expect of the prediction."""
    prediction, train = result.prediction, result.train
    casts = prediction.training.timeline.cast_bytes()
    if casts > 0.05 * prediction.training.peak:
        yield (
            f"{casts / 2**30:.2f} GiB of the training step are {train.mixed_precision} copies of the weights, which "
            "autocast makes for every step and keeps for the backward pass: at a small batch "
            f"{train.mixed_precision} can need more than fp32 (--train.mixed-precision no)"
        )
    evaluation = prediction.evaluation
    if evaluation is not None and evaluation.peak > prediction.training.peak:
        yield f"the peak is outside the training step ({evaluation.name}): a smaller training batch does not lower it"
