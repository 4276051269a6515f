"""Exports that a method does not have leave nothing behind; a loaded run is the run, whatever its method drew."""

import json
import random
import sys

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

import tests.experiments.finished_run as writing
from adapters.bottleneck import Bottleneck
from adapters.errors import AdapterError
from adapters.lora import Lora, LowRankUpdate
from adapters.peft_method import PeftMethod
from experiments import export
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.records.adapter_file import save_adapter
from experiments.records.folder import write_json
from experiments.records.load_run import load_run
from tasks.language.e2e import EndToEnd
from tests.tasks.language.conftest import tiny_base  # noqa: F401  (a fixture)

TOKENS = torch.arange(12)[None]


@pytest.fixture
def task(tiny_base):  # noqa: F811
    return EndToEnd(base=tiny_base, max_new_tokens=8)


def finished(adapter, task, folder, seed: int = 0, **options):
    return writing.finished_run(RunConfig(adapter, task, Train(steps=1, device="cpu", seed=seed)), folder, **options)


@pytest.mark.parametrize("format", ["merged", "peft", "kohya"])
def test_a_format_that_the_method_lacks_is_refused_before_loading(format, task, tmp_path, monkeypatch):
    run = finished(Bottleneck(width=2), task, tmp_path / "runs")
    monkeypatch.setattr(EndToEnd, "load_base", lambda *_: pytest.fail("a base was loaded"))
    monkeypatch.setattr(sys, "argv", ["export", str(run.path), "--format", format])
    with pytest.raises(UsageError, match=f"the method 'bottleneck' has no format '{format}'"):
        export.main()
    assert not (run.path / "export").exists()


def test_a_format_that_the_model_lacks_leaves_nothing(task, tmp_path):
    run = load_run(finished(Lora(rank=2), task, tmp_path / "runs").path)
    with pytest.raises(AdapterError, match="LoRA of a transformers model has no format 'kohya': choose peft"):
        export.export(run, "kohya", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_output_that_is_a_file_is_refused(task, tmp_path, monkeypatch):
    run = finished(Lora(rank=2), task, tmp_path / "runs")
    (tmp_path / "out").write_text("mine")
    words = ["export", str(run.path), "--format", "merged", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(UsageError, match="is a file: choose a folder"):
        export.main()
    assert (tmp_path / "out").read_text() == "mine"


@pytest.fixture
def outputs(monkeypatch) -> list[torch.Tensor]:
    """The outputs of the tuned models that `finished` has written."""
    found = []

    def saved(config, folder, attachment) -> None:
        found.append(attachment.backbone.model(input_ids=TOKENS).logits)
        save_adapter(config, folder, attachment)

    monkeypatch.setattr(writing, "save_adapter", saved)
    return found


@pytest.mark.parametrize("start", ["pissa_niter_4", "pissa", "gaussian"])
def test_a_loaded_run_is_the_run(start, task, tmp_path, outputs):
    """The attached method drew its start under another seed than loading does."""
    adapter = PeftMethod(options={"r": 4, "init_lora_weights": start}, targets=("output",))
    run = load_run(finished(adapter, task, tmp_path, attached_under=1).path)
    torch.testing.assert_close(run.model(input_ids=TOKENS).logits, outputs[0], atol=1e-5, rtol=1e-5)


def test_what_a_method_draws_and_does_not_save_is_drawn_again(task, tmp_path, outputs, monkeypatch):
    """Here the scale of LoRA's updates. The file to start from is gone; the caller's generators keep their states."""
    draw_nothing = LowRankUpdate.__init__

    def drawing(update, *arguments) -> None:
        draw_nothing(update, *arguments)
        update.scaling = 1 + float(torch.rand(())) + random.random() + float(np.random.rand())

    first = finished(Lora(rank=2), task, tmp_path / "first")
    start = first.path / "adapter.safetensors"
    monkeypatch.setattr(LowRankUpdate, "__init__", drawing)
    run = finished(Lora(rank=2, init=str(start)), task, tmp_path / "second", seed=7)
    start.unlink()
    for seeding in (torch.manual_seed, random.seed, np.random.seed):
        seeding(11)
    expected = (torch.rand(()), random.random(), np.random.rand())
    for seeding in (torch.manual_seed, random.seed, np.random.seed):
        seeding(11)
    loaded = load_run(run.path)
    assert (torch.rand(()), random.random(), np.random.rand()) == expected
    torch.testing.assert_close(loaded.model(input_ids=TOKENS).logits, outputs[1], atol=1e-5, rtol=1e-5)


@pytest.fixture
def quantised(task, tmp_path, outputs):
    """A finished run whose record says that its base was in nf4; its output is that on the base in fp32."""
    run = finished(Lora(rank=2), task, tmp_path / "runs")
    record = json.loads(run.result_file.read_text())
    record["config"]["task"]["base_precision"] = "nf4"
    write_json(run.result_file, record)
    return run


def test_a_run_on_a_quantised_base_is_merged_into_the_base_in_fp32(quantised, tmp_path, monkeypatch, outputs, capsys):
    words = ["export", str(quantised.path), "--format", "merged", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    export.main()
    assert "merged into the base in fp32; the run was trained on it in nf4" in capsys.readouterr().err
    merged = GPT2LMHeadModel.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(merged(input_ids=TOKENS).logits, outputs[0], atol=1e-5, rtol=1e-5)


def test_the_adapter_of_a_quantised_run_is_exported_without_a_gpu(quantised, tmp_path, monkeypatch):
    words = ["export", str(quantised.path), "--format", "peft", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    export.main()
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_a_run_loaded_on_a_quantised_base_says_how_to_merge_it(quantised, tmp_path, monkeypatch):
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr("tasks.pretrained.precision.check_quantisation", lambda *_: None)
    run = load_run(quantised.path, "cpu")
    with pytest.raises(UsageError, match=r"load_run\(folder, in_fp32=True\), or export the adapter itself"):
        export.export(run, "merged", tmp_path / "out")
    assert not (tmp_path / "out").exists()
