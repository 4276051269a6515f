"""Which storages live when: the bytes of a training step by category, at its peak.

A TorchDispatchMode sees every storage that an operation returns, with real tensors and with fake ones alike, so one
count serves measurement and prediction. What a kernel allocates for itself and frees again is not seen.
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
    "weights",  # of the model, trained or frozen, and what a method computes once and keeps
    "gradients",  # of the trained weights
    "optimizer state",  # AdamW's two moments
    "activations",  # the batch, and what the forward pass leaves for the backward pass
    "temporaries",  # all that lives more shortly: gradients of activations, recomputed blocks, the optimizer's copies
)


@dataclass
class Life:
    """One storage: its bytes and what it is for."""

    size: int
    category: str


class MemoryTracker(TorchDispatchMode):
    """Births and deaths of storages in their order, while the mode is on; sizes are rounded up to `granularity`."""

    def __init__(self, granularity: int = 1):
        super().__init__()
        self.granularity = granularity
        self.alive: dict[int, Life] = {}  # by the storage's address
        self.events: list[tuple[int, Life]] = []  # +1 a birth, -1 a death
        self.hooks: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.enter(tree_leaves(result), TEMPORARIES)
        return result

    def enter(self, values: Iterable[Any], category: str) -> None:
        """Note tensors that are not known yet, as of this category."""
        for value in values:
            if isinstance(value, Tensor):
                self._enter(value.untyped_storage(), category)

    def _enter(self, storage: torch.UntypedStorage, category: str) -> None:
        key = storage._cdata
        if key in self.alive:
            return
        size = -(-storage.nbytes() // self.granularity) * self.granularity
        life = self.alive[key] = Life(size, category)
        self.events.append((1, life))
        weakref.finalize(storage, self._leave, key, life).atexit = False

    def _leave(self, key: int, life: Life) -> None:
        del self.alive[key]
        self.events.append((-1, life))

    def watch(self, loss: nn.Module, optimizer: Any) -> None:
        """Follow training steps of this loss by hooks, so that any loop may run them; all weights are entered now."""
        optimizer = getattr(optimizer, "optimizer", optimizer)  # within accelerate's
        self.enter([*loss.parameters(), *loss.buffers()], WEIGHTS)
        trained = [parameter for parameter in loss.parameters() if parameter.requires_grad]
        self.hooks += [
            # what an earlier step left when the next one starts, a method has made to keep
            loss.register_forward_pre_hook(lambda *_: self._rename(ACTIVATIONS, WEIGHTS)),
            loss.register_forward_hook(lambda *_: self._rename(TEMPORARIES, ACTIVATIONS)),
            optimizer.register_step_post_hook(lambda *_: self._name(tree_leaves(optimizer.state), OPTIMIZER)),
            *(p.register_post_accumulate_grad_hook(lambda p: self._name([p.grad], GRADIENTS)) for p in trained),
        ]

    def unwatch(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()

    def _name(self, tensors: Iterable[Any], category: str) -> None:
        """These living tensors are of this category."""
        for tensor in tensors:
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata in self.alive:
                self.alive[tensor.untyped_storage()._cdata].category = category

    def _rename(self, before: str, after: str) -> None:
        """All that lives and is of one category is of the other from now on."""
        for life in self.alive.values():
            if life.category == before:
                life.category = after

    @property
    def peak(self) -> dict[str, int]:
        """Bytes by category at the moment when most bytes were alive; all 0 where nothing was."""
        totals = list(accumulate(sign * life.size for sign, life in self.events))
        most = max(range(len(totals)), key=totals.__getitem__, default=-1)
        found: dict[str, int] = {category: 0 for category in CATEGORIES}
        for sign, life in self.events[: most + 1]:
            found[life.category] += sign * life.size
        return found
