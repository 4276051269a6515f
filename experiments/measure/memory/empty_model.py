"""Models on the meta device, filled with empty tensors: fake ones inside FakeTensorMode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def make_empty(model: nn.Module) -> None:
    """Replace every parameter and buffer of a model on the meta device by an empty tensor with the same strides.

    Inside FakeTensorMode the new tensors are fake. Tensors shared between modules stay shared.
    """
    replaced: dict[int, Tensor] = {}

    def empty(tensor: Tensor) -> Tensor:
        if id(tensor) not in replaced:
            new = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
            is_parameter = isinstance(tensor, nn.Parameter)
            replaced[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if is_parameter else new
        return replaced[id(tensor)]

    for module in list(model.modules()):
        tensors: Any = (module._parameters, module._buffers)
        for named in tensors:
            named.update({name: None if tensor is None else empty(tensor) for name, tensor in named.items()})


def count(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
