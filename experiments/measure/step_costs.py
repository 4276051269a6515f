"""Cost of a training step beside memory, cheap enough to go into every run's record."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from experiments.measure.flops import count_step, measured_peak, throughput
from experiments.measure.gradient_bytes import Communication, predicted_bytes
from tasks import distributed

if TYPE_CHECKING:
    from experiments.training.loop import Trainer

COMPUTE_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def step_costs(trainer: Trainer) -> dict[str, Any]:
    """FLOPs, throughput and gradient bytes of one optimizer step, after training, in the form that records store.

    FLOPs are counted by running the first step's batch once more; times come from all logged steps. With several
    processes, FLOPs and the share of the peak are per process, samples and tokens are totals.
    """
    settings, model = trainer.settings, trainer.prepared.backbone.model
    batch = next(trainer.prepared.batches(settings.seed, 0, settings.batch_size))
    loss = trainer.accelerator.unwrap_model(trainer.loss_module)  # keeps autocast, drops the synchronisation
    model.train()
    flops = count_step(lambda: loss(batch), trainer.owned.values(), settings.gradient_accumulation_steps)
    model.eval()
    batches = settings.gradient_accumulation_steps * distributed.world_size()
    tokens = trainer.prepared.tokens(batch)
    speed = throughput(
        seconds=[line["seconds"] for line in trainer.log.lines()],
        samples=settings.batch_size * batches,
        tokens=None if tokens is None else tokens * batches,
        flops=flops.total,
        peak=measured_peak(trainer.accelerator.device.type, COMPUTE_DTYPES[settings.mixed_precision]),
    )
    return {
        "flops": flops.as_record(),
        "throughput": asdict(speed),
        "communication": Communication(predicted_bytes(trainer.owned.values())).as_record(),
    }
