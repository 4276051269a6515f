"""The optimizer, its learning-rate schedule, and the moving average of the trained parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.optimization import get_scheduler  # transformers' computes the same, but loads peft
from torch import Tensor, nn

from experiments.config import ResolvedTrain


def optimizer_of(settings: ResolvedTrain, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The variant of AdamW that the settings name."""
    options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adamw-8bit":
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]

        return AdamW8bit(parameters, **options)
    if settings.optimizer == "adamw-fused":
        options["fused"] = True
    return torch.optim.AdamW(parameters, **options)


def schedule_of(settings: ResolvedTrain, optimizer: torch.optim.Optimizer) -> Any:
    """The learning-rate schedule over the training's steps; diffusers' "constant" has no warmup."""
    name: Any = settings.lr_scheduler
    if name == "constant" and settings.warmup_steps:
        name = "constant_with_warmup"
    return get_scheduler(name, optimizer, num_warmup_steps=settings.warmup_steps, num_training_steps=settings.steps)


class MovingAverage:
    """An exponential moving average of the parameters: the numbers of diffusers' `EMAModel`, in a few kernels in all.

    Its decay rises as (1 + n) / (10 + n) up to `decay`, so that the initial values are forgotten quickly.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float):
        self.shadow_params = [parameter.detach().clone() for parameter in parameters]
        self.decay, self.optimization_step = decay, 0
        self.stored: list[Tensor] = []

    @torch.no_grad()
    def step(self, parameters: Iterable[nn.Parameter]) -> None:
        """Follow the parameters after an optimizer step."""
        self.optimization_step += 1
        n = self.optimization_step - 1
        decay = min((1 + n) / (10 + n), self.decay) if n else 0.0
        differences = torch._foreach_sub(self.shadow_params, list(parameters))
        torch._foreach_mul_(differences, 1 - decay)
        torch._foreach_sub_(self.shadow_params, differences)

    @torch.no_grad()
    def copy_to(self, parameters: Iterable[nn.Parameter]) -> None:
        torch._foreach_copy_(list(parameters), self.shadow_params)

    def store(self, parameters: Iterable[nn.Parameter]) -> None:
        """Keep the parameters in the CPU's memory, until `restore`."""
        self.stored = [parameter.detach().cpu().clone() for parameter in parameters]

    @torch.no_grad()
    def restore(self, parameters: Iterable[nn.Parameter]) -> None:
        for parameter, value in zip(parameters, self.stored, strict=True):
            parameter.copy_(value)
        self.stored = []


def average_of(settings: ResolvedTrain, parameters: Iterable[nn.Parameter]) -> MovingAverage | None:
    """A moving average of the parameters, if the settings ask for one."""
    return None if settings.ema_decay is None else MovingAverage(parameters, settings.ema_decay)


@contextmanager
def averaged(average: MovingAverage | None, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """A context in which the parameters have their averages, if there are any."""
    if average is None:
        yield
        return
    parameters = list(parameters)
    average.store(parameters)
    average.copy_to(parameters)
    try:
        yield
    finally:
        average.restore(parameters)
