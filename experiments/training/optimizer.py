"""What moves the trained parameters: the optimizer, its schedule, and the moving average of where they have been."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import get_scheduler

from experiments.config import ResolvedTrain


def optimizer_of(settings: ResolvedTrain, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The AdamW that the settings name."""
    options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adamw-8bit":
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]

        return AdamW8bit(parameters, **options)
    if settings.optimizer == "adamw-fused":
        options["fused"] = True
    return torch.optim.AdamW(parameters, **options)


def schedule_of(settings: ResolvedTrain, optimizer: torch.optim.Optimizer) -> Any:
    """The learning-rate schedule over the training's steps; transformers' "constant" has no warmup of its own."""
    name: Any = settings.lr_scheduler
    if name == "constant" and settings.warmup_steps:
        name = "constant_with_warmup"
    return get_scheduler(name, optimizer, settings.warmup_steps, settings.steps)


class MovingAverage:
    """An exponential moving average of parameters (Polyak & Juditsky 1992), as diffusers' EMAModel has it.

    The decay rises as (1 + n) / (10 + n) to its setting, so that the average does not remember the beginning.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float):
        self.parameters, self.decay = parameters, decay
        self.values = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after optimizer step `step`, from 1 on."""
        decay = 0.0 if step <= 1 else min(self.decay, step / (9 + step))
        for name, parameter in self.parameters.items():
            self.values[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the parameters are the average."""
        trained = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.put(self.values)
        try:
            yield
        finally:
            self.put(trained)

    @torch.no_grad()
    def put(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])
