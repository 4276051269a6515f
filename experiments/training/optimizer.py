"""The optimizer, its learning-rate schedule, and the moving average of the trained parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import get_scheduler

from experiments.config import ResolvedTrain

if TYPE_CHECKING:
    from diffusers.training_utils import EMAModel


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
    """The learning-rate schedule over the training's steps; transformers' "constant" has no warmup."""
    name: Any = settings.lr_scheduler
    if name == "constant" and settings.warmup_steps:
        name = "constant_with_warmup"
    return get_scheduler(name, optimizer, settings.warmup_steps, settings.steps)


def average_of(settings: ResolvedTrain, parameters: Iterable[nn.Parameter]) -> EMAModel | None:
    """diffusers' exponential moving average of the parameters, if the settings ask for one.

    Its decay rises as (1 + n) / (10 + n) up to `ema_decay`, so that the initial values are forgotten quickly.
    """
    if settings.ema_decay is None:
        return None
    from diffusers.training_utils import EMAModel

    return EMAModel(list(parameters), decay=settings.ema_decay)


@contextmanager
def averaged(average: EMAModel | None, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
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
