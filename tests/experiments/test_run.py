"""A small real run on the bundled base: its record, its folder, resuming and failures."""

import contextlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.records.folder import RunFolder
from experiments.session import execute
from experiments.training.callbacks import Callback
from experiments.training.loop import Trainer
from tasks.diffusion.pokemon import Pokemon

TASK = Pokemon(train_items=16, validation_items=8, test_items=12, drift_items=10, num_inference_steps=2)
SETTINGS = Train(steps=4, batch_size=4, device="cpu", checkpointing_steps=2)


@pytest.fixture(scope="module")
def prepared():
    return TASK.prepare(torch.device("cpu"))


def start(adapter, folder, prepared, settings=SETTINGS):
    config = RunConfig(adapter, TASK, settings).resolved()
    run_folder = RunFolder.of(folder, config)
    return run_folder, execute(config, run_folder, prepared)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, prepared):
    return start(Lora(rank=2), tmp_path_factory.mktemp("runs"), prepared)


def test_the_record_is_complete(finished):
    folder, record = finished
    assert json.loads(folder.result_file.read_text()) == json.loads(json.dumps(record, default=str))
    assert record["status"] == "finished"
    for name in ("kid", "fid", "clip_score", "alignment", "drift"):
        figure = record["metrics"][name]
        assert {"value", "base", "low", "high", "unit", "n", "extractor", "better"} <= figure.keys(), name
        assert figure["low"] <= figure["value"] <= figure["high"], name
    for name in ("kid", "fid"):
        assert {"floor", "reconstruction"} <= record["metrics"][name].keys()
    assert {"setup", "train", "evaluate"} <= record["seconds"].keys()
    assert record["memory"]["peak_bytes"] > 1e8
    frozen = record["parameters"]["total"] - record["parameters"]["trainable"]
    assert record["memory"]["categories"]["weights"] >= 4 * frozen
    assert record["memory"]["categories"]["optimizer state"] >= 8 * record["parameters"]["trainable"]
    assert record["git"].keys() == {"commit", "dirty"}


def test_the_folder_holds_adapter_log_items_and_samples(finished):
    folder, record = finished
    state = load_file(folder.adapter_file)
    assert sum(tensor.numel() for tensor in state.values()) == record["parameters"]["trainable"]
    assert record["adapter_bytes"] == folder.adapter_file.stat().st_size
    lines = [json.loads(line) for line in (folder.path / "steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert len(pd.read_parquet(folder.path / "items.parquet")) == 12
    assert (folder.samples / "before_after.png").exists()
    assert not folder.checkpoint.exists()


def test_diffusers_loads_the_folder_and_samples_the_same_picture(finished, prepared):
    from diffusers import StableDiffusionPipeline
    from PIL import Image

    from tasks.bundled.bundled_bases import FOLDERS
    from tasks.diffusion.model.sampling import noise_seed

    folder, _ = finished
    theirs: Any = StableDiffusionPipeline.from_pretrained(FOLDERS["mini"], torch_dtype=torch.float32)
    theirs.scheduler = prepared.base.pipeline().scheduler
    theirs.load_lora_weights(folder.path)
    guidance = prepared.sampling.guidance_scale
    generator = torch.Generator().manual_seed(noise_seed(0, 0))
    prompt = prepared.splits.test.captions[0]
    picture = theirs(prompt, num_inference_steps=2, guidance_scale=guidance, generator=generator).images[0]
    ours = Image.open(folder.samples / "0.png")
    assert np.abs(np.asarray(picture, int) - np.asarray(ours, int)).max() <= 1


def test_the_backbone_is_restored(prepared, tmp_path):
    weights = {name: p.clone() for name, p in prepared.backbone.model.named_parameters()}
    start(FullFinetuning(), tmp_path, prepared)
    now = dict(prepared.backbone.model.named_parameters())
    assert now.keys() == weights.keys()
    assert all(torch.equal(now[name], weights[name]) for name in weights)


class Dying(Callback):
    """Interrupts the training in a step, before the step's checkpoint."""

    def __init__(self, at):
        self.at = at

    def on_step(self, trainer, step, line):
        if step == self.at:
            raise KeyboardInterrupt


def train(folder, prepared, dies_at=None, **settings):
    """Train four steps unless it dies before; returns the adapter's state."""
    torch.manual_seed(0)
    attachment = Lora(rank=2, dropout=0.1).attach(prepared.backbone)
    config = RunConfig(Lora(), TASK, replace(SETTINGS, **settings)).resolved()
    trainer = Trainer(prepared, attachment, config.train, folder, callbacks=[Dying(dies_at)])
    with contextlib.suppress(KeyboardInterrupt):
        trainer.run()
    state = attachment.state()
    attachment.detach()
    return state


@pytest.mark.parametrize("settings", [{}, {"ema_decay": 0.5}], ids=["plain", "average"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(settings, prepared, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = train(whole, prepared, **settings)
    train(parts, prepared, dies_at=3, **settings)  # the last checkpoint is that of step 2
    resumed = train(parts, prepared, **settings)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)

    def log(folder):
        lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
        return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]

    assert log(parts) == log(whole)


def test_divergence_is_a_failed_record_with_its_reason(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(type(prepared), "loss", lambda self, batch: self.base.unet.conv_in.weight.sum() * 0 + diverge())

    def diverge():
        return torch.tensor(float("nan"), requires_grad=True)

    folder, record = start(Lora(rank=2), tmp_path, prepared)
    assert record["status"] == "failed"
    assert "step 1" in record["reason"]
    assert json.loads(folder.result_file.read_text())["status"] == "failed"


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        RunFolder.of(file / "runs", RunConfig(Lora(), TASK, SETTINGS).resolved()).make()
