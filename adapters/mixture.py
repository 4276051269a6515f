"""A batch whose items use different adapters, as a server of many of them needs (Sheng et al. 2023, arXiv 2311.03285).

The base model's own products are computed once for all items; an update, once for the items of each adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.base import HookedUpdate


@dataclass(frozen=True)
class Mixture:
    """For one update: the parameters of each adapter, and the indices of the items that use it."""

    parameters: Sequence[Mapping[str, Tensor]]
    items: Sequence[Tensor]

    def update(self, update: HookedUpdate, args: tuple, kwargs: dict, output: Any) -> Any:
        """What `update` makes of the whole batch; its tensors have the items as their first dimension."""
        import torch

        parts = []
        for parameters, items in zip(self.parameters, self.items, strict=True):
            with update.lent(parameters):
                parts.append(update.update(chosen(args, items), kwargs, chosen(output, items)))
        return joined(parts, torch.cat([*self.items]).argsort())


def items_of(rows: Sequence[int], states: int, device: Any) -> list[Tensor]:
    """By state, the indices of the items that use it. Raises AdapterError for a row that names no state."""
    import torch

    if not rows or not all(0 <= row < states for row in rows):
        raise AdapterError(f"each item of a mixed batch names one of {states} adapters, 0 to {states - 1}: got {rows}")
    which = torch.tensor(rows, device=device)
    return [(which == state).nonzero().flatten() for state in range(states)]


def chosen(value: Any, items: Tensor) -> Any:
    """The items of a tensor, or of every tensor of a tuple."""
    if isinstance(value, tuple):
        return tuple(chosen(part, items) for part in value)
    return value[items] if hasattr(value, "shape") else value


def joined(parts: Sequence[Any], order: Tensor) -> Any:
    """One batch, in its order, of its parts by adapter."""
    import torch

    if isinstance(parts[0], tuple):
        return tuple(joined(same, order) for same in zip(*parts, strict=True))
    return torch.cat([*parts])[order] if hasattr(parts[0], "shape") else parts[0]
