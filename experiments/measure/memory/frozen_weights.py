"""The dtype that frozen weights are stored in: the one place where it enters a prediction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

StorageDtype = Literal["fp32", "bf16", "fp16"]
DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ALWAYS_FP32 = ("vae",)  # its activations leave the range of fp16


def store(module: nn.Module, weights: StorageDtype, trained: Collection[Tensor] = (), part: str | None = None) -> None:
    """Convert every frozen parameter of a module on the meta device; `trained` ones stay as they are, in fp32.

    `part` is the module's name if it is another model than the one that trains.
    """
    dtype = DTYPES["fp32" if part in ALWAYS_FP32 else weights]
    kept = set(map(id, trained))
    for parameter in module.parameters():
        if id(parameter) not in kept and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def stored_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters as they are stored."""
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
