"""Batches whose items use different adapters, as a server of many adapters needs (Sheng et al. 2023, arXiv 2311.03285).

The base model computes all items together; each update runs once per adapter, on that adapter's items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, cast

from adapters.base import Attachment, check_state
from adapters.errors import AdapterError
from adapters.hooks import HookedAttachment, HookedUpdate

if TYPE_CHECKING:
    from torch import Tensor, nn

State = Mapping[str, Any]  # tensors by name, as `Attachment.state()` returns them


def mixable(attachment: Attachment) -> bool:
    """Whether `mixed` works: every update treats the items of a batch independently."""
    return isinstance(attachment, HookedAttachment) and all(u.item_wise for u in attachment.updates.values())


@contextmanager
def mixed(attachment: Attachment, states: Sequence[State], rows: Sequence[int]) -> Iterator[None]:
    """A context in which item i of every batch uses the adapter `states[rows[i]]`.

    Each state is a `state()` saved with the attachment's settings. Raises AdapterError if the method is not
    `mixable`, if a state does not fit, or while the adapter is merged or disabled.
    """
    if not mixable(attachment):
        raise AdapterError(
            f"{type(attachment).__name__} cannot serve several adapters in one batch: load one at a time"
        )
    updates = cast(HookedAttachment[HookedUpdate], attachment).updates
    if any(update.handle is None for update in updates.values()):
        raise AdapterError("a merged or disabled adapter cannot serve other adapters: call unmerge() first")
    for state in states:
        check_state(state, attachment.parameters())
    device = next(iter(attachment.parameters().values())).device
    items = items_by_state(rows, len(states), device)
    with attachment.disabled():
        handles = [update.register(MixedUpdate(update, name, states, items)) for name, update in updates.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class MixedUpdate:
    """The hook that replaces one update: a copy of the update per adapter, each applied to that adapter's items."""

    def __init__(self, update: HookedUpdate, name: str, states: Sequence[State], items: Sequence[Tensor]):
        self.items = items
        self.updates = [
            with_parameters(update, {own: state[f"{name}.{own}"].to(update[own]) for own in update.names})
            for state in states
        ]

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict, output: Any = None) -> Any:
        import torch

        parts = [
            update.update(select(args, items), kwargs, select(output, items))
            for update, items in zip(self.updates, self.items, strict=True)
        ]
        return concatenate(parts, torch.cat([*self.items]).argsort())


def with_parameters(update: HookedUpdate, parameters: Mapping[str, Tensor]) -> HookedUpdate:
    """A copy of the update that computes with `parameters` (by the update's own names for them)."""
    copied = copy(update)
    copied.module = ModuleView(update.module, {update.PREFIX + name: value for name, value in parameters.items()})
    return copied


class ModuleView:
    """A module with some of its parameters replaced; reads everything else from the module itself."""

    def __init__(self, module: nn.Module, replaced: Mapping[str, Tensor]):
        self.__dict__ |= replaced
        self.__dict__["viewed_module"] = module

    def __getattr__(self, name: str) -> Any:
        if name == "viewed_module":  # not set yet, for example while the view is being copied
            raise AttributeError(name)
        return getattr(self.viewed_module, name)


def items_by_state(rows: Sequence[int], states: int, device: Any) -> list[Tensor]:
    """For each state, the indices of the items that use it. Raises AdapterError for a row without a state."""
    import torch

    if not rows or not all(0 <= row < states for row in rows):
        raise AdapterError(f"each item of a mixed batch names one of {states} adapters, 0 to {states - 1}: got {rows}")
    row_of_item = torch.tensor(rows, device=device)
    return [(row_of_item == state).nonzero().flatten() for state in range(states)]


def select(value: Any, items: Tensor) -> Any:
    """The items of a tensor, or of every tensor in a tuple; other values unchanged."""
    if isinstance(value, tuple):
        return tuple(select(part, items) for part in value)
    return value[items] if hasattr(value, "shape") else value


def concatenate(parts: Sequence[Any], order: Tensor) -> Any:
    """The outputs of all adapters as one batch, its items in `order`."""
    import torch

    if isinstance(parts[0], tuple):
        return tuple(concatenate(same, order) for same in zip(*parts, strict=True))
    return torch.cat([*parts])[order] if hasattr(parts[0], "shape") else parts[0]
