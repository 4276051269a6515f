"""Track every tensor storage: the bytes of a training step at its peak, by category.

A TorchDispatchMode sees each storage that an operation returns, for real and for fake tensors alike, so the same count
serves measurement and prediction. Workspace that a kernel allocates and frees internally is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WEIGHTS, GRADIENTS, OPTIMIZER, ACTIVATIONS, TEMPORARIES = CATEGORIES = (
    "weights",  # the model's, trained or frozen, and tensors that a method caches
    "gradients",  # of the trained weights
    "optimizer state",  # AdamW's two moments
    "activations",  # the batch, and what the forward pass saves for the backward pass
    "temporaries",  # everything shorter-lived: gradients of activations, recomputed blocks, the optimizer's copies
)


@dataclass
class Allocation:
    """One storage: its bytes and its category."""

    size: int
    category: str


class MemoryTracker(TorchDispatchMode):
    """Records when storages are allocated and freed while the mode is on; rounds sizes up to `granularity` bytes."""

    def __init__(self, granularity: int = 1):
        super().__init__()
        self.granularity = granularity
        self.alive: dict[int, Allocation] = {}  # by the storage's address
        self.events: list[tuple[int, Allocation]] = []  # +1 allocated, -1 freed
        self.hooks: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.add(tree_leaves(result), TEMPORARIES)
        return result

    def add(self, values: Iterable[Any], category: str) -> None:
        """Record the tensors among `values` that are not known yet, under this category."""
        for value in values:
            if isinstance(value, Tensor):
                self._add(value.untyped_storage(), category)

    def _add(self, storage: torch.UntypedStorage, category: str) -> None:
        key = storage._cdata
        if key in self.alive:
            return
        size = -(-storage.nbytes() // self.granularity) * self.granularity
        allocation = self.alive[key] = Allocation(size, category)
        self.events.append((1, allocation))
        weakref.finalize(storage, self._free, key, allocation).atexit = False

    def _free(self, key: int, allocation: Allocation) -> None:
        del self.alive[key]
        self.events.append((-1, allocation))

    def watch(self, loss: nn.Module, optimizer: Any) -> None:
        """Follow training steps through hooks on the loss and the optimizer, whatever loop runs them.

        The weights are recorded at once.
        """
        optimizer = getattr(optimizer, "optimizer", optimizer)  # unwrap accelerate's
        self.add([*loss.parameters(), *loss.buffers()], WEIGHTS)
        trained = [parameter for parameter in loss.parameters() if parameter.requires_grad]
        self.hooks += [
            # activations that survive across steps are a method's cache: count them as weights
            loss.register_forward_pre_hook(lambda *_: self._move(ACTIVATIONS, WEIGHTS)),
            loss.register_forward_hook(lambda *_: self._move(TEMPORARIES, ACTIVATIONS)),
            optimizer.register_step_post_hook(lambda *_: self._assign(tree_leaves(optimizer.state), OPTIMIZER)),
            *(p.register_post_accumulate_grad_hook(lambda p: self._assign([p.grad], GRADIENTS)) for p in trained),
        ]

    def unwatch(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()

    def _assign(self, tensors: Iterable[Any], category: str) -> None:
        """Set the category of live tensors."""
        for tensor in tensors:
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata in self.alive:
                self.alive[tensor.untyped_storage()._cdata].category = category

    def _move(self, before: str, after: str) -> None:
        """Move everything alive from one category to the other."""
        for allocation in self.alive.values():
            if allocation.category == before:
                allocation.category = after

    @property
    def peak(self) -> dict[str, int]:
        """Bytes by category at the moment with the most bytes alive; all 0 if nothing was recorded."""
        totals = list(accumulate(sign * allocation.size for sign, allocation in self.events))
        last = max(range(len(totals)), key=totals.__getitem__, default=-1)
        sizes: dict[str, int] = {category: 0 for category in CATEGORIES}
        for sign, allocation in self.events[: last + 1]:
            sizes[allocation.category] += sign * allocation.size
        return sizes
