"""Which tensor was the first that is not finite: asked once, when a step's loss or gradient is not."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn


def first_not_finite(
    model: nn.Module, owned: Mapping[str, nn.Parameter], batch: Any, loss: Callable[[Any], Tensor]
) -> str | None:
    """Its name and kind, in the order in which a step computes; None where all of this batch is finite.

    The step is computed again, forward and backward, so the batch and the random state must be the step's own.
    """
    for name, tensor in tensors_in(batch, "batch"):
        if not_finite(tensor):
            return f"the training data, '{name}',"
    for name, parameter in model.named_parameters():
        if not_finite(parameter):
            return f"the weight '{name}'"
    model.zero_grad()
    with _watched(model) as found:
        value = loss(batch)
    if found:
        return f"the output of the layer '{found[0]}'"
    if not_finite(value):
        return "the loss"
    value.backward()
    for name, parameter in reversed(list(owned.items())):  # the backward pass comes to the last layer first
        if parameter.grad is not None and not_finite(parameter.grad):
            return f"the gradient of '{name}'"
    return None


def not_finite(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not bool(tensor.isfinite().all())


def tensors_in(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a batch, whatever holds them, with the way to each."""
    if isinstance(value, Tensor):
        yield name, value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name), f"{name}.{field.name}")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from tensors_in(inner, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from tensors_in(inner, f"{name}.{index}")


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[list[str]]:
    """A context that lists the modules, in the order in which they end, whose output is not finite."""
    found: list[str] = []

    def hook(name: str) -> Callable:
        def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if any(not_finite(tensor) for _, tensor in tensors_in(output, name)):
                found.append(name)

        return look

    handles = [module.register_forward_hook(hook(name)) for name, module in model.named_modules() if name]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
