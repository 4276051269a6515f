"""How devices differ: what a prediction on CPU fake tensors has to imitate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

# Operations that autocast runs in fp32 on CUDA but not on the CPU (torch's "CUDA Ops that can autocast to float32").
FLOAT32_ON_CUDA: frozenset[Any] = frozenset(
    getattr(namespace, name)
    for namespace, names in {
        F: ("layer_norm", "group_norm", "rms_norm", "softmax", "log_softmax", "softplus", "mse_loss", "cross_entropy"),
        torch: ("layer_norm", "group_norm", "rms_norm", "softmax", "log_softmax", "pow", "rsqrt", "exp", "log"),
        Tensor: ("softmax", "log_softmax", "pow", "__pow__", "rsqrt", "exp", "log", "norm", "sum", "prod", "cumsum"),
    }.items()
    for name in names
)


class CudaAutocast(TorchFunctionMode):
    """CUDA's autocast list, and its fused attention kernels, which draw dropout internally and store no mask."""

    def __init__(self, fused_attention: bool):
        super().__init__()
        self.fused_attention = fused_attention

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping | None = None) -> Any:
        arguments: dict[str, Any] = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and self.fused_attention:
            arguments.pop("dropout_p", None)
        if func in FLOAT32_ON_CUDA and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return func(*tree_map(to_float32, args), **tree_map(to_float32, arguments))
        return func(*args, **arguments)


def to_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16) else value


@dataclass(frozen=True)
class DeviceRules:
    """A kind of device."""

    name: str
    granularity: int  # the allocator rounds sizes up to a multiple of this number of bytes
    foreach: bool  # AdamW's default on the device
    imitate: Callable[
        [bool], AbstractContextManager
    ]  # a context with the device's operations; whether attention is fused


CPU = DeviceRules("cpu", 1, False, lambda fused_attention: nullcontext())
CUDA = DeviceRules("cuda", 512, True, CudaAutocast)  # c10/cuda/CUDACachingAllocator.cpp: kMinBlockSize
DEVICE_RULES = {rules.name: rules for rules in (CPU, CUDA)}
