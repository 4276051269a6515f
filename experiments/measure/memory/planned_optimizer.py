"""Optimizers as a prediction steps them: the states and temporaries of the real ones, on fake tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from experiments.config import ResolvedTrain

BLOCK = 256  # numbers that share a scale in bitsandbytes' blockwise states
SMALLEST = 4096  # numbers of a parameter from which on its states have 8 bits (bitsandbytes' min_8bit_size)


def planned_optimizer(settings: ResolvedTrain, parameters: Iterable[nn.Parameter], foreach: bool) -> Any:
    """The optimizer that `experiments.training.optimizer` makes on a device; `foreach` is AdamW's default there."""
    if settings.optimizer == "adamw-8bit":
        return EightBitStates(parameters)
    if settings.optimizer == "adamw-fused":
        return torch.optim.AdamW(parameters, lr=settings.learning_rate, fused=True)
    return torch.optim.AdamW(parameters, lr=settings.learning_rate, foreach=foreach)


class EightBitStates(torch.optim.Optimizer):
    """The states of bitsandbytes' AdamW8bit (Dettmers et al. 2021, arXiv 2110.02861); its kernel has no temporaries.

    Two 8-bit moments and a scale in fp32 for each block of each; small parameters have moments in fp32.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]):
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not self.state[parameter]:
                    self.state[parameter] = states_of(parameter)


def states_of(parameter: nn.Parameter) -> dict[str, torch.Tensor]:
    """The states that one parameter has from its first step on."""
    if parameter.numel() < SMALLEST:
        return {name: torch.zeros_like(parameter, dtype=torch.float32) for name in ("state1", "state2")}
    blocks = -(-parameter.numel() // BLOCK)
    moments = {name: torch.zeros_like(parameter, dtype=torch.uint8) for name in ("state1", "state2")}
    return moments | {name: torch.zeros(blocks) for name in ("absmax1", "absmax2")}
