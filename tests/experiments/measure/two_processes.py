"""Run by torchrun in test_communication.py: counts what each method reduces, and writes it as JSON."""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments.config import FALLBACK, Train
from experiments.measure.communication import count
from experiments.train import Trainer
from tests.experiments.measure.tiny import TinyText

settings = replace(Train(**FALLBACK), steps=3, batch=2, validate_every=3, device="cpu")
found = {}
for adapter in (Lora(rank=2), FullFinetuning()):
    attachment = adapter.attach((prepared := TinyText()).backbone)
    trained = sum(parameter.numel() for parameter in attachment.parameters().values())
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(prepared, attachment, settings, Path(folder))
        main = PartialState().is_main_process
        found[adapter.name] = count(trainer).as_record() | {"trained": trained}
if main:
    Path(sys.argv[1]).write_text(json.dumps(found))
