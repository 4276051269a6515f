"""Quantised linear layers as a prediction computes them: what bitsandbytes' layers store, keep and copy."""

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

    nf4 layers compute in the dtype `compute`, int8 layers in that of their input.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not head:
            shape = tuple(module.weight.shape) if isinstance(module, nn.Linear) else tuple(module.weight.shape)[::-1]
            _replace_weight(module, precision, shape)
            forward = partial(_nf4, module, shape, compute) if precision == "nf4" else partial(_int8, module, shape)
            module.forward = forward  # pyright: ignore[reportAttributeAccessIssue]


def _replace_weight(module: nn.Module, precision: str, shape: tuple[int, ...]) -> None:
    count, rows = shape[0] * shape[1], shape[0]
    scales = -(-count // BLOCK)
    sizes = {"nf4": (-(-count // 2), scales, -(-scales // BLOCK_OF_SCALES)), "int8": (count, 0, rows)}
    weights, in_8_bits, in_32_bits = sizes[precision]
    empty = partial(torch.empty, device=next(module.parameters()).device)
    module.weight = nn.Parameter(empty(weights, 1, dtype=torch.uint8), requires_grad=False)
    module.register_buffer("scales_8_bits", empty(in_8_bits, dtype=torch.uint8))
    module.register_buffer("scales_32_bits", empty(in_32_bits, dtype=torch.float32))


def _nf4(module: Any, shape: tuple[int, ...], compute: torch.dtype, hidden: Tensor) -> Tensor:
    bias = None if module.bias is None else module.bias.to(compute)
    result: Any = _Nf4Product.apply(hidden.to(compute), module.weight, bias, shape)
    return result.to(hidden.dtype)


def _int8(module: Any, shape: tuple[int, ...], hidden: Tensor) -> Tensor:
    """The bias is added in place."""
    result: Any = _Int8Product.apply(hidden, module.weight, shape)
    return result


class _Nf4Product(torch.autograd.Function):
    """bitsandbytes' MatMul4Bit: x W^T with a temporary W, in the forward and again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, packed: Tensor, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.shape = shape
        return F.linear(hidden, hidden.new_empty(shape), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient @ gradient.new_empty(ctx.shape), None, None, None


class _Int8Product(torch.autograd.Function):
    """bitsandbytes' MatMul8bitLt: a product of 8-bit integers, and a temporary W in the backward pass alone.

    It keeps its input, which the backward pass does not use, in an attribute: checkpointing, which frees what is saved
    for the backward pass, does not free it. Columns with outliers, a few, are left out.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, packed: Tensor, shape: tuple[int, ...]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows = hidden.reshape(-1, shape[1])
        ctx.shape, ctx.grad_shape, ctx.dtype = shape, hidden.shape, hidden.dtype
        ctx.kept = rows if ctx.needs_input_grad[0] else None
        sums = torch._int_mm(_in_8_bits(rows.to(torch.float16)), packed.view(torch.int8).view(shape).t())
        result = torch.empty_like(sums, dtype=torch.float16).to(hidden.dtype)  # both beside the sums, in 32 bits
        return result.view(*hidden.shape[:-1], shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows = gradient.reshape(-1, ctx.shape[0]).contiguous().to(ctx.dtype)
        return (rows @ rows.new_empty(ctx.shape)).view(ctx.grad_shape), None, None


def _in_8_bits(rows: Tensor) -> Tensor:
    """Each row divided by its largest magnitude, beside the magnitudes, which are searched for outliers."""
    outliers = rows.abs() >= 0
    quantised = torch.empty_like(rows, dtype=torch.int8)
    del outliers
    return quantised
