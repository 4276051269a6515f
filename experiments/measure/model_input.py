"""The input of latency measurements: the call that a task makes to its model, without the loss around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.base import PreparedTask


@dataclass(frozen=True)
class ModelInput:
    """The model's arguments for one of the task's own batches: real shapes, and whatever else the task passes."""

    model: Any
    args: tuple
    kwargs: dict[str, Any]
    items: int

    @classmethod
    def of(cls, prepared: PreparedTask, items: int, seed: int = 0) -> ModelInput:
        """Capture the arguments of the first model call that the loss of a training batch makes."""
        model, calls = prepared.backbone.model, list[tuple[tuple, dict]]()
        hook = model.register_forward_pre_hook(
            lambda module, args, kwargs: calls.append((args, kwargs)), with_kwargs=True, prepend=True
        )
        try:
            with torch.no_grad():
                prepared.loss(next(prepared.batches(seed, 0, items)))
        finally:
            hook.remove()
        args, kwargs = calls[0]
        return cls(model, args, kwargs, items)

    def forward(self) -> Tensor:
        """The model's output (logits or predicted noise), without the scalar loss that labels add in front of it."""
        output = self.model(*self.args, **self.kwargs)
        parts = output if isinstance(output, tuple) else output.to_tuple()
        return next(part for part in parts if isinstance(part, torch.Tensor) and part.ndim > 0)

    def item(self, index: int) -> ModelInput:
        """The input of one item; arguments without a batch dimension are unchanged."""

        def one(value: Any) -> Any:
            has_items = isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == self.items
            return value[index : index + 1] if has_items else value

        return ModelInput(self.model, tuple(map(one, self.args)), {k: one(v) for k, v in self.kwargs.items()}, 1)
