"""The storages of a training step or an evaluation over time, and its FLOPs: what a prediction is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry, shape_wrapper

from experiments.measure.flops import FORMULAS
from experiments.training.memory_tracker import CATEGORIES, WEIGHTS, Allocation, MemoryTracker

if TYPE_CHECKING:
    from torch import nn

aten: Any = torch.ops.aten
ALL_FORMULAS: Mapping[Any, Callable[..., int]] = flop_registry | {
    operation: shape_wrapper(formula) for operation, formula in FORMULAS.items()
}


@dataclass(frozen=True)
class Timeline:
    """Allocations and frees in order: `sizes` in bytes (events,), negative when freed, and what each event is about.

    `categories` (events,) are indices of CATEGORIES; `casts` (events,) marks autocast's copies of weights. Only moments
    from `start` on can be the peak.
    """

    sizes: np.ndarray
    categories: np.ndarray
    casts: np.ndarray
    start: int = 0

    @cached_property
    def peak(self) -> int:
        """The most bytes alive at any moment."""
        return int(self._totals[self._moment]) if len(self.sizes) else 0

    @cached_property
    def _totals(self) -> np.ndarray:
        return self.sizes.cumsum()

    @cached_property
    def _moment(self) -> int:
        start = min(self.start, len(self.sizes) - 1)
        return start + int(self._totals[start:].argmax())

    def by_category(self) -> dict[str, int]:
        """Bytes by category at the peak."""
        alive = self.sizes[: self._moment + 1] if len(self.sizes) else self.sizes
        sums = np.bincount(self.categories[: len(alive)], alive, len(CATEGORIES))
        return {category: round(size) for category, size in zip(CATEGORIES, sums, strict=True)}

    def cast_bytes(self) -> int:
        """Bytes of autocast's copies of weights at the peak."""
        alive = self.sizes[: self._moment + 1]
        return round(float(alive[self.casts[: len(alive)]].sum()))

    def then(self, later: Timeline) -> Timeline:
        """This timeline to its end, followed by the part of a later one from its `start` on."""
        sizes = np.concatenate([self.sizes, later.sizes[later.start :]])
        categories = np.concatenate([self.categories, later.categories[later.start :]])
        casts = np.concatenate([self.casts, later.casts[later.start :]])
        return Timeline(sizes, categories, casts, len(self.sizes))

    def until_start(self) -> Timeline:
        """What was alive before `start`."""
        return Timeline(self.sizes[: self.start], self.categories[: self.start], self.casts[: self.start])

    def at_batch(self, batch: int, traced: int, granularity: int) -> Timeline:
        """The timeline for another batch than the `traced` one, a prime that divides no other dimension.

        A tensor's size is then a multiple of it exactly if the batch is one of its dimensions. Sizes are rounded up to
        `granularity` bytes.
        """
        sizes = np.where(self.sizes % traced == 0, self.sizes // traced * batch, self.sizes)
        rounded = -(-np.abs(sizes) // granularity) * granularity * np.sign(sizes)
        return replace(self, sizes=rounded)


class StepTrace(MemoryTracker):
    """A tracker that also counts FLOPs and notes which storages are weights in another dtype."""

    def __init__(self, granularity: int = 1, traced: int | None = None):
        """`traced` is a prime batch size, to tell FLOPs that grow with the batch from the others."""
        super().__init__(granularity)
        self.traced = traced
        self.flops, self.fixed_flops = 0, 0  # all, and those that do not grow with the batch
        self.casts: set[int] = set()  # ids of allocations

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        formula = ALL_FORMULAS.get(func._overloadpacket)
        if formula is not None:
            self._count(formula(*args, **(kwargs or {}), out_val=result))
        if func is aten._to_copy.default and self._category(args[0]) == WEIGHTS:
            self.casts.add(id(self._allocation(result)))
        return result

    def _count(self, flops: int) -> None:
        self.flops += flops
        if self.traced is not None and flops % self.traced:
            self.fixed_flops += flops

    def add_weights(self, modules: Iterable[nn.Module]) -> None:
        """Record the parameters and buffers of modules that are on the device."""
        for module in modules:
            self.add([*module.parameters(), *module.buffers()], WEIGHTS)

    def assign(self, tensors: Iterable[Any], category: str) -> None:
        """Set the category of live tensors."""
        self._assign(tensors, category)

    def has(self, category: str) -> bool:
        """Whether anything in a category is alive."""
        return any(allocation.category == category for allocation in self.alive.values())

    def keep(self, category: str) -> None:
        """Count as weights what is alive in a category: it stays from now on."""
        self._move(category, WEIGHTS)

    def timeline(self, start: int = 0) -> Timeline:
        """The events so far; the peak is looked for from event `start` on."""
        signs = np.array([sign for sign, _ in self.events], dtype=np.int64)
        sizes = np.array([allocation.size for _, allocation in self.events], dtype=np.int64)
        categories = np.array([CATEGORIES.index(allocation.category) for _, allocation in self.events], dtype=np.int64)
        casts = np.array([id(allocation) in self.casts for _, allocation in self.events], dtype=bool)
        return Timeline(signs * sizes, categories, casts, start)

    def _allocation(self, tensor: Tensor) -> Allocation | None:
        return self.alive.get(tensor.untyped_storage()._cdata)

    def _category(self, value: Any) -> str | None:
        allocation = self._allocation(value) if isinstance(value, Tensor) else None
        return None if allocation is None else allocation.category
