"""Quantised linear layers as a prediction computes them: the bytes and the temporary copies of bitsandbytes' layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

BLOCK = 64  # weights that share a scale in nf4
BLOCK_OF_SCALES = 256  # scales in 8 bits that share one in fp32: double quantisation (Dettmers et al. 2023, section 3)


def quantise(model: Any, precision: str, compute: torch.dtype) -> None:
    """Replace the weights of a model's linear layers, but for its output layer, by those of nf4 or int8 layers.

    The layers compute with a copy of their weight in the dtype `compute`, made for each forward and backward pass.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not head:
            shape = tuple(module.weight.shape) if isinstance(module, nn.Linear) else tuple(module.weight.shape)[::-1]
            _replace_weight(module, precision, shape)
            module.forward = partial(_product, module, shape, compute)  # pyright: ignore[reportAttributeAccessIssue]


def _replace_weight(module: nn.Module, precision: str, shape: tuple[int, ...]) -> None:
    count, rows = shape[0] * shape[1], shape[0]
    scales = -(-count // BLOCK)
    sizes = {"nf4": (-(-count // 2), scales, -(-scales // BLOCK_OF_SCALES)), "int8": (count, 0, rows)}
    weights, in_8_bits, in_32_bits = sizes[precision]
    empty = partial(torch.empty, device=next(module.parameters()).device)
    module.weight = nn.Parameter(empty(weights, 1, dtype=torch.uint8), requires_grad=False)
    module.register_buffer("scales_8_bits", empty(in_8_bits, dtype=torch.uint8))
    module.register_buffer("scales_32_bits", empty(in_32_bits, dtype=torch.float32))


def _product(module: Any, shape: tuple[int, ...], compute: torch.dtype, hidden: Tensor) -> Tensor:
    bias = None if module.bias is None else module.bias.to(compute)
    result: Any = _Product.apply(hidden.to(compute), module.weight, shape)
    return (result if bias is None else result + bias).to(hidden.dtype)


class _Product(torch.autograd.Function):
    """x W^T with a temporary W of arbitrary values, in the forward and again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, packed: Tensor, shape: tuple[int, ...]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.shape = shape
        return F.linear(hidden, hidden.new_empty(shape))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient @ gradient.new_empty(ctx.shape), None, None
