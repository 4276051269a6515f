"""What a training step costs beside memory, cheap enough for every run's record."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from experiments.measure.communication import Communication, predicted_bytes
from experiments.measure.flops import count_step, measured_peak, throughput
from tasks import distributed

if TYPE_CHECKING:
    from experiments.training.loop import Trainer

COMPUTE_TYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def step_costs(trainer: Trainer) -> dict[str, Any]:
    """Operations, speed and bytes sent of one optimizer step of a training that has ended, as a record has them.

    The operations are those of the first step's batch, run once more; times are all logged steps'. With several
    processes the operations and the share of the peak are one process's, samples and tokens those of all.
    """
    settings, model = trainer.settings, trainer.prepared.backbone.model
    batch = next(trainer.prepared.batches(settings.seed, 0, settings.batch_size))
    loss = trainer.accelerator.unwrap_model(trainer.loss_module)  # in its precision, but in this process alone
    model.train()
    flops = count_step(lambda: loss(batch), trainer.owned.values(), settings.gradient_accumulation_steps)
    model.eval()
    batches, tokens = settings.gradient_accumulation_steps * distributed.world_size(), trainer.prepared.tokens(batch)
    speed = throughput(
        [json.loads(line)["seconds"] for line in trainer.log_file.read_text().splitlines()],
        settings.batch_size * batches,
        None if tokens is None else tokens * batches,
        flops.total,
        measured_peak(trainer.accelerator.device.type, COMPUTE_TYPES[settings.mixed_precision]),
    )
    return {
        "flops": flops.as_record(),
        "throughput": asdict(speed),
        "communication": Communication(predicted_bytes(trainer.owned.values())).as_record(),
    }
