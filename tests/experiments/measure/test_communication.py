"""What a real run in two processes reduces, against 4 bytes a trained parameter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.measure.communication import measured, predicted_bytes
from tests.experiments.tiny_task import PreparedTiny, Tiny

ROOT = Path(__file__).parents[3]


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([str(w) for w in words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_two_processes_reduce_four_bytes_a_trained_parameter(tmp_path):
    torchrun("-m", "tests.experiments.measure.two_processes", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found.keys() == {"lora", "full"}
    for method in found.values():
        assert method["processes"] == 2
        assert method["measured_bytes"] == 4 * method["trained"] == method["predicted_bytes"]
    assert found["lora"]["trained"] < found["full"]["trained"] / 10


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_command_counts_the_bundled_base(tmp_path, method):
    small = ["--task.train-items", "40", "--task.test-items", "12", "--task.drift-items", "10"]
    settings = [
        "--train.steps",
        "2",
        "--train.batch-size",
        "1",
        "--train.device",
        "cpu",
        "--out",
        tmp_path / "found.json",
    ]
    torchrun("-m", "experiments.measure.communication", method, "sd-pokemon", *small, *settings)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["measured_bytes"] == found["predicted_bytes"] > 0
    assert found["processes"] == 2


def test_prediction_follows_the_number_format():
    backbone = PreparedTiny(Tiny()).backbone
    count = sum(p.numel() for p in Lora(rank=2).attach(backbone).parameters().values())
    assert predicted_bytes(p for p in backbone.model.parameters() if p.requires_grad) == 4 * count
    backbone.model.to(torch.bfloat16)
    assert predicted_bytes(p for p in backbone.model.parameters() if p.requires_grad) == 2 * count


def test_one_process_alone_is_refused(tmp_path, tiny_task):
    config = RunConfig(Lora(rank=2), tiny_task(), Train(steps=1, device="cpu")).resolved()
    with pytest.raises(UsageError, match="torchrun --nproc_per_node 2"):
        measured(config)
