"""FLOPs of a run's steps and of its evaluation, counted in seconds on the meta device: without weights or memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from experiments.config import ResolvedTrain, RunConfig
from experiments.measure.flops import count_call, count_step
from experiments.precision import stored_in

META = torch.device("meta")


@dataclass(frozen=True)
class RunFlops:
    """Floating-point operations of one optimizer step, and of one evaluation if the task describes it (else 0)."""

    step: int
    evaluation: int


def run_flops(config: RunConfig) -> RunFlops:
    """Count a resolved configuration; the rows and pictures have the largest shapes that occur.

    Raises AdapterError or TaskError if the run itself would, and RuntimeError if a method reads values of its weights,
    which tensors on the meta device do not have.
    """
    settings, meta = ResolvedTrain.of_steps(config.train, 1), config.task.meta_model()
    model = meta.backbone.model
    with meta.without_values():
        meta.reserve_positions(config.adapter.positions_taken)
        attachment = config.adapter.attach(meta.backbone)
        meta.backbone.set_gradient_checkpointing(settings.gradient_checkpointing)
        model.train()
        loss = lambda: meta.loss(meta.batch(settings.batch_size, META))  # noqa: E731
        step = count_step(loss, attachment.parameters().values(), settings.gradient_accumulation_steps).total
        model.eval()
        calls = [call for call in meta.evaluation(META) if "evaluation" in call.when]
        with torch.no_grad():
            if config.adapter.mergeable and stored_in(config.task) == "fp32":
                attachment.merge()  # as the evaluation of a run does
            return RunFlops(step, sum(count_call(call.run) * call.count * call.seeds for call in calls))
