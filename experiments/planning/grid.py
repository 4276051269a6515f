"""Memory plans over a grid: sizes, resolutions, batch sizes, precision and gradient checkpointing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig
from experiments.errors import UsageError, check_numbers, did_you_mean
from experiments.planning.cards import usable
from experiments.planning.memory_plan import GIB, Plan, PlanSettings, plan, smallest_card

if TYPE_CHECKING:
    import pandas as pd

Values = Mapping[str, Sequence[Any]]
SWITCH = {"off": False, "on": True}
BATCH = "batch_size"
NEEDED = "needed (GiB)"
PRECISIONS = {"no": "no", "bf16": "bf16", "fp16": "fp16"}


@dataclass(frozen=True)
class Axis:
    """A setting that a grid can vary: its usual values, how a word is parsed, and how a value is set."""

    values: tuple[Any, ...]
    parse: Callable[[str], Any]
    set: Callable[[RunConfig, Any], RunConfig]


def grid_axes(config: RunConfig) -> dict[str, Axis]:
    """The settings that can be varied, by name; the adapter's size and the task's input size keep their own names."""
    axes = {}
    size = config.adapter.size_field
    if size is not None:
        default = getattr(config.adapter, size)
        usual = () if default is None else tuple(dict.fromkeys((max(1, default // 4), default, 4 * default)))
        axes[size] = Axis(usual, int, lambda c, v: replace(c, adapter=replace(c.adapter, **{size: v})))
    input_size = config.task.input_size_field
    if input_size is not None:
        default = config.task.meta_model().facts[input_size]
        axes[input_size] = Axis(
            (default // 2, default), int, lambda c, v: replace(c, task=replace(c.task, **{input_size: v}))
        )
    return axes | {
        BATCH: Axis((1, 8), int, _train_setting(BATCH)),
        "mixed_precision": Axis(("no", "bf16"), PRECISIONS.__getitem__, _train_setting("mixed_precision")),
        "gradient_checkpointing": Axis((False, True), SWITCH.__getitem__, _train_setting("gradient_checkpointing")),
    }


def _train_setting(name: str) -> Callable[[RunConfig, Any], RunConfig]:
    return lambda config, value: replace(config, train=replace(config.train, **{name: value}))


def parse_axes(words: Sequence[str], axes: Mapping[str, Axis]) -> dict[str, tuple[Any, ...]]:
    """The values to vary, by axis, from words such as `rank=1,4` or `batch-size`; all axes if there are no words.

    Raises UsageError for an unknown axis or a value of the wrong kind.
    """
    varied = {}
    for word in words or [name for name, axis in axes.items() if axis.values]:
        spelled, _, values = word.partition("=")
        name = spelled.replace("-", "_")
        if name not in axes:
            raise UsageError(f"--grid cannot vary '{spelled}'{did_you_mean(name, axes)}; choose from {', '.join(axes)}")
        axis = axes[name]
        try:
            varied[name] = tuple(axis.parse(value) for value in values.split(",")) if values else axis.values
        except (ValueError, KeyError):
            raise UsageError(f"--grid {word}: expected values such as {name}={_example(axis)}") from None
        if not varied[name]:
            raise UsageError(f"--grid {name} has no default values here: give some, for example {name}=1,2")
    return varied


def _example(axis: Axis) -> str:
    return ",".join(spell(value) for value in axis.values) or "1,2"


def spell(value: Any) -> str:
    """A value as `--grid` takes it."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def plan_grid(config: RunConfig, settings: PlanSettings, axes: Mapping[str, Axis], varied: Values) -> pd.DataFrame:
    """One row per combination: its values, GiB by category, peaks, need, the smallest card and its largest batch.

    Combinations that differ in the batch size alone share one prediction.
    """
    import pandas as pd
    from tqdm import tqdm

    others = {name: values for name, values in varied.items() if name != BATCH}
    for name, values in varied.items():
        for value in values:
            check_numbers(axes[name].set(config, value).train, "train")
    rows = {}
    for values in tqdm(list(itertools.product(*others.values())), desc="predicting", unit="plan"):
        chosen = dict(zip(others, values, strict=True))
        varied_config = config
        for name, value in chosen.items():
            varied_config = axes[name].set(varied_config, value)
        result = plan(varied_config, settings)
        for batch in varied.get(BATCH, (result.train.batch_size,)):
            combination = tuple(chosen.get(name, batch) for name in varied)
            rows[combination] = dict(zip(varied, map(spell, combination), strict=True)) | _row(result, batch)
    return pd.DataFrame([rows[combination] for combination in itertools.product(*varied.values())])


def _row(result: Plan, batch: int) -> dict[str, Any]:
    timeline = result.by_batch.at(batch)
    if batch == result.train.batch_size:
        timeline = result.prediction.training.timeline
    needed = result.with_allowances(max(timeline.peak, result.evaluation_peak)) / GIB
    card = smallest_card(needed)
    return {
        **{f"{name} (GiB)": size / GIB for name, size in timeline.by_category().items()},
        "training peak (GiB)": timeline.peak / GIB,
        "evaluation peak (GiB)": result.evaluation_peak / GIB,
        NEEDED: needed,
        "smallest GPU": "none" if card is None else f"{card} GB",
        "largest batch": 0 if card is None else result.largest_batch(usable(card)),
        "trained (parameters)": result.prediction.trainable,
    }
