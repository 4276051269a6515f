"""What to change so that a run fits a GPU that is too small for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from adapters.errors import AdapterError
from experiments.config import ResolvedTrain, RunConfig
from experiments.errors import UsageError
from experiments.planning.memory_plan import Plan, plan
from experiments.precision import SETTING, stored_in
from tasks.errors import TaskError
from tasks.pretrained.precision import QUANTISED

LEAST = 0.005  # GiB that a change must save: less does not show


def to_fit(first: Plan, memory: float, say: Callable[[str], object] = lambda text: None) -> list[str]:
    """Lines with changes, each made on top of those before, until the run fits so many GiB.

    What is tried next depends on where the peak is then; a change that lowers nothing is left out, and tried again
    after one that does. Each option changes once.
    """
    if first.needed <= memory:
        return []
    current, changed_options, failed, lines = first, set(), set(), []
    while current.needed > memory:
        skipped = changed_options | failed
        following = next((change for change in changes(current) if change.option not in skipped), None)
        if following is None:
            break
        failed.add(following.option)
        say(f"predicting with {following.words}")
        changed = _planned(following.change(current.config), first)
        if changed is not None and changed.needed < current.needed - LEAST:
            current, failed = changed, set()
            changed_options.add(following.option)
            lines.append(f"  {following.words}: {current.needed:.2f} GiB")
    needs = f"it needs {first.needed:.2f} GiB of {memory:.2f}"
    if not lines:
        return [f"{needs}, and no change known here lowers that: choose a smaller base"]
    if current.needed <= memory:
        lines[-1] += ", which fits"
    else:
        lines.append("  that is not enough: choose a smaller base")
    return [f"{needs}; changes, each on top of the one before:", *lines]


def _planned(config: RunConfig, first: Plan) -> Plan | None:
    """None if the method or the task does not allow it."""
    try:
        return plan(config, first.settings)
    except (UsageError, AdapterError, TaskError):
        return None


@dataclass(frozen=True)
class Change:
    """The command line's words, and what they do to a configuration."""

    words: str
    change: Callable[[RunConfig], RunConfig]

    @property
    def option(self) -> str:
        return self.words.split()[0]


def changes(current: Plan) -> Iterator[Change]:
    """What may lower the peak where it is now, those that cost least first."""
    train, task, adapter = current.train, current.config.task, current.config.adapter
    if current.prediction.training.peak >= current.evaluation_peak:
        yield from _of_training(train)
    if hasattr(task, SETTING) and stored_in(task) not in QUANTISED and not adapter.trains_base:
        yield _task_change(SETTING, "nf4")
    if getattr(task, "num_beams", 1) > 1:
        yield _task_change("num_beams", 1)
    size = task.input_size_field
    if size is not None:
        yield _task_change(size, current.prediction.shapes[size] // 2)


def _of_training(train: ResolvedTrain) -> Iterator[Change]:
    if train.batch_size > 1:
        accumulated = train.batch_size * train.gradient_accumulation_steps
        yield _train_change(batch_size=1, gradient_accumulation_steps=accumulated)
    if not train.gradient_checkpointing:
        yield _train_change(gradient_checkpointing=True)
    if train.optimizer != "adamw-8bit":
        yield _train_change(optimizer="adamw-8bit")


def _task_change(name: str, value: Any) -> Change:
    return Change(_option("task", name, value), lambda c: replace(c, task=replace(c.task, **{name: value})))


def _train_change(**settings: Any) -> Change:
    words = " ".join(_option("train", name, value) for name, value in settings.items())
    return Change(words, lambda config: replace(config, train=replace(config.train, **settings)))


def _option(part: str, name: str, value: Any) -> str:
    option = f"--{part}.{name.replace('_', '-')}"
    return option if value is True else f"{option} {value}"


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
