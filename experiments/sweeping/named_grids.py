"""Named grids of two settings, for any method and task: `--grid NAME` with `--methods`.

Each function returns the axes of a method's configuration; its docstring says what the grid answers. Sizes are a
quarter, 1, 4 and 16 times the method's default, unless `--sizes` gives others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from adapters.base import Adapter
from experiments.config import RunConfig, size_of
from experiments.errors import UsageError, did_you_mean
from experiments.sweeping.grid import Axis, changed
from experiments.sweeping.learning_rates import LearningRateSearch
from tasks.base import Task

if TYPE_CHECKING:
    from adapters.backbone import Backbone

FACTORS = (0.25, 1, 4, 16)  # sizes, as multiples of the default
BATCHES = (0.25, 0.5, 1, 2, 4)  # batch sizes, as multiples of the recommended one
SHARES = (0.125, 0.25, 0.5, 1)  # of the training data
RATES = LearningRateSearch(5, 3.0)
GROUPS = ("linear", "attention", "feed-forward")  # roles of layers: the first is both others together


def _sizes(config: RunConfig) -> list[RunConfig]:
    """The configuration at each size of the grid; once if the method has no size to vary."""
    size = size_of(config.adapter)
    if size is None:
        return [config]
    sizes = sorted({max(1, round(factor * size)) for factor in FACTORS})
    return [changed(config, f"adapter.{config.adapter.size_field}", value) for value in sizes]


SIZES = Axis((), _sizes)
Grid = Callable[[type[Task]], list[Axis]]


def rate_rank(task: type[Task]) -> list[Axis]:
    """Which learning rate suits which size? Five rates, a factor of 3 apart around the recommended one."""
    return [SIZES, Axis(("train.learning_rate",), _rates)]


def batch_rank(task: type[Task]) -> list[Axis]:
    """Does a small adapter suffer from large batches? A quarter to 4 times the recommended batch size, at each size.

    Every run sees equally many items: steps are fewer with larger batches. Rates stay the same; add --search-lr 5.
    """
    return [SIZES, Axis(("train.batch_size", "train.steps"), _batches)]


def data_size(task: type[Task]) -> list[Axis]:
    """How much data does a size pay off for? An eighth, a quarter, half and all of the training items, at each size.

    Every run takes equally many steps.
    """
    if task.data_size_field is None:
        raise UsageError(f"--grid data-size: {task.name} has no setting for the amount of training data")
    return [SIZES, Axis((f"task.{task.data_size_field}",), _amounts)]


def placement(task: type[Task]) -> list[Axis]:
    """Which layers deserve the parameters? Attention, feed-forward layers and both, with equally many parameters.

    The number is that of the method's size (or of each of --sizes) on both groups together.
    """
    return [Axis(("adapter.targets",), _placements)]


NAMED_GRIDS: Mapping[str, Grid] = {
    "rate-rank": rate_rank,
    "batch-rank": batch_rank,
    "data-size": data_size,
    "placement": placement,
}


def _rates(config: RunConfig) -> list[RunConfig]:
    """Rates around that of the method's default size, so that all sizes try the same ones."""
    field = config.adapter.size_field
    default = config if field is None else changed(config, f"adapter.{field}", getattr(type(config.adapter)(), field))
    centre = default.resolved().train.learning_rate
    assert centre is not None, "a resolved configuration has a rate"
    return [changed(config, "train.learning_rate", rate) for rate in RATES.rates(centre)]


def _batches(config: RunConfig) -> list[RunConfig]:
    """Batch sizes around the recommended one, each with the steps that see as many items."""
    train = config.resolved().train
    assert train.batch_size is not None, "a resolved configuration has a batch size"
    variants = []
    for batch_size in sorted({max(1, round(factor * train.batch_size)) for factor in BATCHES}):
        variant = changed(config, "train.batch_size", batch_size)
        if train.steps is not None:  # epochs see equally many items anyway
            steps = max(1, round(train.steps * train.batch_size / batch_size))
            variant = changed(variant, "train.steps", steps)
        variants.append(variant)
    return variants


def _amounts(config: RunConfig) -> list[RunConfig]:
    """Shares of the training items. Raises UsageError for data that the task does not generate."""
    amount = config.task.data_size()
    if amount is None:
        raise UsageError(
            f"--grid data-size: {config.task.name} trains on these data in full; "
            f"--task.{str(config.task.data_size_field).replace('_', '-')} only sets the amount of generated data"
        )
    steps = config.resolved().train.steps
    if steps is not None:
        config = changed(config, "train.steps", steps)
    counts = sorted({max(1, round(share * amount)) for share in SHARES})
    return [changed(config, f"task.{config.task.data_size_field}", count) for count in counts]


def _placements(config: RunConfig) -> list[RunConfig]:
    adapter, backbone = config.adapter, config.task.meta_model().backbone
    return [replace(config, adapter=placed) for placed in placements(adapter, backbone)]


def placements(adapter: Adapter, backbone: Backbone) -> list[Adapter]:
    """The adapter on each group of layers, at the sizes that train the number of parameters closest to its size on all.

    Raises UsageError for a method without targets, a size, or a formula for its parameters.
    """
    field, size = adapter.size_field, size_of(adapter)
    if field is None or size is None or not hasattr(adapter, "targets"):
        raise UsageError(f"--grid placement: {adapter.name} has no layers to choose (no setting 'targets') or no size")
    placed = {group: replace(adapter, **{"targets": (group,), field: 1}) for group in GROUPS}
    counts = {group: each.parameter_count(backbone) for group, each in placed.items()}
    if not all(counts.values()):
        raise UsageError(f"--grid placement: {adapter.name} has no formula for its number of parameters on this model")
    parameters = size * (counts[GROUPS[0]] or 0)
    sizes = {group: max(1, round(parameters / (count or 1))) for group, count in counts.items()}
    return [replace(placed[group], **{field: sizes[group]}) for group in GROUPS]


def axes_of_grid(name: str, task: type[Task], sized: bool) -> list[Axis]:
    """The axes of a named grid; `sized`: the command line gives the sizes. Raises UsageError for an unknown name."""
    if name not in NAMED_GRIDS:
        raise UsageError(
            f"unknown grid '{name}'{did_you_mean(name, NAMED_GRIDS)}; the grids are {', '.join(NAMED_GRIDS)}"
        )
    return [axis for axis in NAMED_GRIDS[name](task) if not (sized and axis is SIZES)]
