"""Finds the first tensor that is not finite, once a step's loss or gradient is not."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from experiments.records.failures import DIVERGED, Diverged
from tasks import distributed


def divergence(step: int, name: str | None, learning_rate: float, scaled: bool) -> Diverged:
    """The error for step `step` (from 0) with the tensor `name`; without one, only a sum over batches overflowed."""
    name = name or ("the gradient, scaled for fp16," if scaled else "the sum of the losses")
    return Diverged(
        f"{DIVERGED}{name} is not finite at step {step + 1}; a lower --train.learning-rate than {learning_rate:g} may "
        "help, unless the data or the base is the cause"
    )


def first_of_all(names: Iterable[str | None]) -> str | None:
    """The first of these names, of all processes'; every process must call this."""
    own_name = next(filter(None, names), None)
    everyones = distributed.map_across_ranks([None] * distributed.world_size(), lambda _: own_name)
    return next(filter(None, everyones), None)


def first_not_finite(
    model: nn.Module, owned: Mapping[str, nn.Parameter], batch: Any, loss: Callable[[Any], Tensor]
) -> str | None:
    """Its kind and name, in the order of a step's computation; None if everything is finite for this batch.

    The forward and backward pass are repeated, so pass the step's batch and restore its random state first.
    """
    for name, tensor in tensors_in(batch, "batch"):
        if not_finite(tensor):
            return f"the training data, '{name}',"
    for name, parameter in model.named_parameters():
        if not_finite(parameter):
            return f"the weight '{name}'"
    model.zero_grad()
    with _watched(model) as layers:
        value = loss(batch)
    if layers:
        return f"the output of the layer '{layers[0]}'"
    if not_finite(value):
        return "the loss"
    value.backward()
    for name, parameter in reversed(list(owned.items())):  # the backward pass starts at the last layer
        if parameter.grad is not None and not_finite(parameter.grad):
            return f"the gradient of '{name}'"
    return None


def not_finite(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not bool(tensor.isfinite().all())


def tensors_in(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors in a batch of any structure, each with its path."""
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
    """A context that lists modules with an output that is not finite, in the order in which they finish."""
    layers: list[str] = []

    def hook(name: str) -> Callable:
        def check(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if any(not_finite(tensor) for _, tensor in tensors_in(output, name)):
                layers.append(name)

        return check

    handles = [module.register_forward_hook(hook(name)) for name, module in model.named_modules() if name]
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()
