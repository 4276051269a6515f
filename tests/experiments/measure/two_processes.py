"""Run by torchrun in test_communication.py: count the gradient bytes of each method and write them as JSON."""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments.config import FALLBACK, Train
from experiments.measure.gradient_bytes import count_gradient_bytes
from experiments.training.loop import Trainer
from tasks import distributed
from tests.experiments.tiny_task import PreparedTiny, Tiny

settings = replace(Train(**FALLBACK), steps=3, batch_size=2, validation_steps=3, device="cpu")
distributed.join(on_cpu=True)
results = {}
for adapter in (Lora(rank=2), FullFinetuning()):
    prepared = PreparedTiny(Tiny())
    attachment = adapter.attach(prepared.backbone)
    trained = sum(parameter.numel() for parameter in attachment.parameters().values())
    with tempfile.TemporaryDirectory() as folder:
        results[adapter.name] = count_gradient_bytes(Trainer(prepared, attachment, settings, Path(folder))).as_record()
    results[adapter.name]["trained"] = trained
if distributed.is_main():
    Path(sys.argv[1]).write_text(json.dumps(results))
distributed.leave()
