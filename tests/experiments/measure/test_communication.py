"""Bytes that a real run in two processes reduces, against 4 bytes per trained parameter."""

from __future__ import annotations

import json

import pytest
import torch

from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.measure.communication import count_bytes
from experiments.measure.gradient_bytes import predicted_bytes
from experiments.records.folder import read_config
from tests.experiments.tiny_task import PreparedTiny, Tiny
from tests.experiments.torchrun import ROOT, torchrun


def test_two_processes_reduce_four_bytes_per_trained_parameter(tmp_path):
    torchrun("-m", "tests.experiments.measure.two_processes", tmp_path / "result.json")
    result = json.loads((tmp_path / "result.json").read_text())
    assert result.keys() == {"lora", "full"}
    for method in result.values():
        assert method["processes"] == 2
        assert method["measured_bytes"] == 4 * method["trained"] == method["predicted_bytes"]
    assert result["lora"]["trained"] < result["full"]["trained"] / 10


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_command_counts_the_bundled_base(tmp_path, method):
    sizes = {"train": 8, "validation": 2, "test": 2, "drift": 2}
    small = [word for name, size in sizes.items() for word in (f"--task.{name}-items", str(size))]
    settings = ["--train.steps", "2", "--train.batch-size", "1", "--train.device", "cpu"]
    settings += ["--output", str(tmp_path / "result.json")]
    torchrun("-m", "experiments.measure.communication", method, "sd-pokemon", *small, *settings)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["measured_bytes"] == result["predicted_bytes"] > 0
    assert result["processes"] == 2


def test_the_configuration_of_a_run_of_the_first_release_is_read():
    (file,) = (ROOT / "tests/reports/golden/schema_1/e2e/lora").glob("*/config.json")
    config = read_config(file)
    assert (config.adapter, config.task.name) == (Lora(rank=4, alpha="rank"), "e2e")
    assert (config.train.steps, config.train.batch_size, config.train.mixed_precision) == (300, 8, "no")


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_a_file_without_a_configuration_is_refused(tmp_path, text):
    file = tmp_path / "config.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=r"expected a run's config\.json"):
        read_config(file)


def test_the_prediction_follows_the_dtype():
    backbone = PreparedTiny(Tiny()).backbone
    count = sum(p.numel() for p in Lora(rank=2).attach(backbone).parameters().values())
    assert predicted_bytes(p for p in backbone.model.parameters() if p.requires_grad) == 4 * count
    backbone.model.to(torch.bfloat16)
    assert predicted_bytes(p for p in backbone.model.parameters() if p.requires_grad) == 2 * count


def test_a_single_process_is_refused(tmp_path, tiny_task):
    config = RunConfig(Lora(rank=2), tiny_task(), Train(steps=1, device="cpu")).resolved()
    with pytest.raises(UsageError, match="torchrun --nproc_per_node 2"):
        count_bytes(config)
