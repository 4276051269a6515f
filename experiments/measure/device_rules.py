"""How a device's training step differs from this machine's: what a prediction must imitate with CPU fake tensors."""

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

# Operations that CUDA's autocast runs in fp32 and the CPU's does not (torch's "CUDA Ops that can autocast to float32").
FLOAT32_ON_CUDA: frozenset[Any] = frozenset(
    getattr(place, name)
    for place, names in {
        F: ("layer_norm", "group_norm", "rms_norm", "softmax", "log_softmax", "softplus", "mse_loss", "cross_entropy"),
        torch: ("layer_norm", "group_norm", "rms_norm", "softmax", "log_softmax", "pow", "rsqrt", "exp", "log"),
        Tensor: ("softmax", "log_softmax", "pow", "__pow__", "rsqrt", "exp", "log", "norm", "sum", "prod", "cumsum"),
    }.items()
    for name in names
)


class CudaRules(TorchFunctionMode):
    """CUDA's autocast list, and its fused attention kernels, which draw dropout within and keep no mask of it."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), given: Mapping | None = None) -> Any:
        kwargs: dict[str, Any] = dict(given or {})
        if func is F.scaled_dot_product_attention:
            kwargs = {name: value for name, value in kwargs.items() if name != "dropout_p"}
        if func in FLOAT32_ON_CUDA and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return func(*tree_map(in_float32, args), **tree_map(in_float32, kwargs))
        return func(*args, **kwargs)


def in_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16) else value


@dataclass(frozen=True)
class Target:
    """A kind of device. `granularity`: bytes that its allocator rounds up to; `foreach`: AdamW's default there."""

    name: str
    granularity: int
    foreach: bool
    rules: Callable[[], AbstractContextManager]


CPU = Target("cpu", 1, False, nullcontext)
CUDA = Target("cuda", 512, True, CudaRules)  # c10/cuda/CUDACachingAllocator.cpp: kMinBlockSize
TARGETS = {target.name: target for target in (CPU, CUDA)}
