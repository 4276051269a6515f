"""What can be checked before the base is loaded is checked then, and leaves nothing behind."""

import sys
from dataclasses import replace

import pytest
import torch

from adapters.bottleneck import Bottleneck
from adapters.errors import AdapterError
from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from adapters.peft_method import PeftMethod
from adapters.prefix_tuning import PrefixTuning
from adapters.subspace import Subspace
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.run import main
from experiments.session import run
from experiments.sweeping.runner import sweep
from experiments.training.accelerator import make_accelerator
from experiments.training.preflight import check_before_loading
from tasks.diffusion.pokemon import Pokemon
from tasks.language.e2e import EndToEnd
from tasks.language.style import Style

USER_ERRORS = (UsageError, AdapterError)


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch):
    for task in (Pokemon, EndToEnd, Style):
        monkeypatch.setattr(task, "prepare", lambda *_: pytest.fail("the task was loaded"))
        monkeypatch.setattr(task, "content_digests", lambda *_: pytest.fail("the data were read"))


@pytest.mark.parametrize("task", [Pokemon(), Style()], ids=["pictures", "text"])
@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (Lora(rank=0), "--adapter.rank must be at least 1"),
        (Lora(targets=("to_q",)), "use its role, query"),
        (Bottleneck(width=0), "--adapter.width must be at least 1"),
        (FullFinetuning(top_blocks=99), "--adapter.top-blocks must be 1 to"),
        (Subspace(dimension=3, scales=True), "--adapter.dimension must be at least .* on this model"),
        (PeftMethod(method="no-such-method"), "peft has no method 'no-such-method'"),
        (PeftMethod(options={"no_such_option": 1}), "has no option 'no_such_option'"),
    ],
)
def test_an_adapter_that_cannot_work(adapter, message, task, tmp_path):
    with pytest.raises(USER_ERRORS, match=message):
        run(adapter, task, Train(device="cpu"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("adapter", [Lora(), PrefixTuning(), PeftMethod(), PeftMethod("vera")], ids=lambda a: a.label)
def test_a_damaged_file_to_start_from(adapter, tmp_path):
    (tmp_path / "adapter.safetensors").write_bytes(b"not the header of a file")
    with pytest.raises(AdapterError, match="is not a complete safetensors file"):
        run(replace(adapter, init=str(tmp_path)), Style(), Train(device="cpu"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_an_own_error_with_a_cause_is_told(tmp_path, monkeypatch):
    def attach(*_):
        raise AdapterError("this model is too narrow") from ValueError("its cause")

    monkeypatch.setattr(Lora, "attach", attach)
    with pytest.raises(AdapterError, match="too narrow"):
        run(Lora(), Style(), Train(device="cpu"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_role_that_only_some_models_have(tmp_path):
    with pytest.raises(AdapterError, match=r"--adapter\.targets"):
        run(Lora(targets=("cross-attention",)), Style(), Train(device="cpu"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_prefix_longer_than_the_model(tmp_path):
    with pytest.raises(USER_ERRORS, match=r"leaves no room for input.*--adapter\.length"):
        run(PrefixTuning(length=5000), EndToEnd(), Train(device="cpu"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train.seed", "4294967296"], "--train.seed must be"),
        (["--train.validation-steps", "0"], "--train.validation-steps must be"),
        (["--train.mixed-precision", "fp16", "--train.device", "cpu"], "is not supported on a CPU: use bf16"),
        (["--task.num-inference-steps", "0"], "--task.num-inference-steps must be"),
        (["--task.guidance-scale", "nan"], "--task.guidance-scale must be"),
        (["--adapter.alpha", "0"], "--adapter.alpha must be above 0"),
    ],
)
def test_a_command_line_leaves_nothing_behind(words, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run", "lora", "sd-pokemon", *words, "--runs", str(tmp_path / "runs")])
    with pytest.raises(ValueError, match=message):
        main()
    assert not (tmp_path / "runs").exists()


def test_cuda_without_cuda(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"--train\.device cuda: torch finds no CUDA GPU"):
        run(Lora(), Style(), Train(device="cuda"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_fp16_on_a_cpu_is_refused_wherever_a_training_begins():
    train = RunConfig(Lora(), Style(), Train(device="cpu", mixed_precision="fp16", steps=1)).resolved().for_items(None)
    with pytest.raises(UsageError, match="is not supported on a CPU: use bf16"):
        make_accelerator(train)


@pytest.mark.parametrize(
    "adapter", [PeftMethod(options={"init_lora_weights": "pissa"}), PeftMethod(method="vera"), Lora(), Subspace()]
)
def test_what_only_fails_without_weights_is_not_refused(adapter):
    """PiSSA decomposes the weights, and peft's methods run the model once: neither can be done with shapes alone."""
    state = torch.random.get_rng_state()
    check_before_loading(RunConfig(adapter, Style(), Train(device="cpu")).resolved())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_sweep_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(Style, "content_digests", lambda *_: {})  # a sweep looks for finished runs first
    (record,) = sweep(Lora(targets=("cross-attention",)), Style(), train=Train(device="cpu"), runs=tmp_path / "runs")
    assert "--adapter.targets" in str(record.reason)
    assert not (tmp_path / "runs").exists()


def test_missing_data_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(ValueError, match="/no/such/folder"):
        run(Lora(), Pokemon(data="/no/such/folder"), Train(device="cpu"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_an_error_in_the_data_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.undo()
    (tmp_path / "text.txt").write_text("too short")
    with pytest.raises(ValueError, match="too short"):
        run(Lora(), Style(data=str(tmp_path / "text.txt")), Train(device="cpu"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
