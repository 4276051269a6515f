"""How long a measurement of costs will take, from two forward passes of the task's own model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.measure.method_costs import CostSettings
from experiments.measure.timing import TIMED_CALLS, WARMUP_CALLS, time_call

if TYPE_CHECKING:
    from experiments.config import RunConfig
    from tasks.base import PreparedTask

LATENCY_VARIANTS, MIXED_VARIANTS = 4, 3  # base, unmerged, control and merged; one adapter, one by one and mixed
STEP = 3  # forward passes in a training step
LAUNCH = 20  # seconds in which the processes that count bytes load the task again


def announced(config: RunConfig, settings: CostSettings, prepared: PreparedTask, methods: int) -> str:
    """A sentence with the predicted minutes of a method and of all."""
    seconds = seconds_of_method(config, settings, prepared)
    return (
        f"about {_minutes(seconds)} for each of {methods} configurations, {_minutes(methods * seconds)} in all: "
        f"{settings.steps} training steps and {settings.rounds} rounds of latencies each (--steps, --rounds)"
    )


def seconds_of_method(config: RunConfig, settings: CostSettings, prepared: PreparedTask) -> float:
    """The expected seconds of one method: of its training steps, and of its rounds of latencies."""
    import torch

    from experiments.config import ResolvedTrain
    from experiments.measure.model_input import ModelInput

    train = ResolvedTrain.of_steps(config.train, settings.steps)
    device = next(prepared.backbone.model.parameters()).device.type
    prepared.backbone.model.eval()

    def forward(items: int) -> float:
        model_input = ModelInput.of(prepared, items)  # its own forward pass warms up
        with torch.no_grad():
            return time_call(model_input.forward, device)

    calls = settings.rounds * (WARMUP_CALLS + TIMED_CALLS)
    latencies = calls * (LATENCY_VARIANTS * forward(settings.items) + MIXED_VARIANTS * forward(settings.mixed))
    step = STEP * forward(train.batch_size) * train.gradient_accumulation_steps
    communication = LAUNCH + 2 * settings.processes * step if settings.processes > 1 else 0.0
    return settings.steps * step + latencies + communication


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
