"""What frozen weights are stored in: the one place where it enters a prediction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import torch

from experiments.measure.memory.quantised_layers import quantise

if TYPE_CHECKING:
    from torch import Tensor, nn

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BESIDE_QUANTISED = "bf16"  # of what is not quantised
ALWAYS_FP32 = ("vae",)  # its activations leave the range of fp16


def store(module: nn.Module, precision: str, trained: Collection[Tensor] = (), part: str | None = None) -> None:
    """Convert every frozen parameter of a module; `trained` ones stay as they are, in fp32.

    A precision other than a dtype (nf4, int8) quantises the linear layers of a module on the meta device. `part` is the
    module's name if it is another model than the one that trains: its layers are not quantised.
    """
    if precision not in DTYPES:
        if part is None:
            quantise(module, precision, DTYPES[BESIDE_QUANTISED])
        precision = BESIDE_QUANTISED
    dtype = DTYPES["fp32" if part in ALWAYS_FP32 else precision]
    kept = set(map(id, trained))
    for parameter in module.parameters():
        if id(parameter) not in kept and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def stored_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters as they are stored."""
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
