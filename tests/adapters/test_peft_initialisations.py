"""peft's initialisations of LoRA: undone, saved, loaded, exported, refused, also if they change the base's weights."""

import copy
import json
from collections.abc import Mapping
from typing import Any

import peft
import pytest
import safetensors.torch
import torch

from adapters.base import attach, settings_of
from adapters.errors import AdapterError
from adapters.interchange.native import metadata_of
from adapters.peft_method import PeftMethod
from tests.contract import tiny
from tests.contract.tiny import output

START = "init_lora_weights"
INITIALISATIONS = {
    "default": {"r": 4},
    "random": {"r": 4, START: False},
    "gaussian": {"r": 4, START: "gaussian"},
    "orthogonal": {"r": 4, START: "orthogonal"},
    "mica": {"r": 4, START: "mica"},
    "pissa": {"r": 4, START: "pissa"},
    "pissa_niter": {"r": 4, START: "pissa_niter_4"},
    "pissa, rslora, ranks": {"r": 4, "lora_alpha": 6, START: "pissa_niter_2", "use_rslora": True, "rank_pattern": {}},
    "pissa, dora": {"r": 4, START: "pissa_niter_4", "use_dora": True},
    "olora": {"r": 4, START: "olora"},
    "loftq": {"r": 4, START: "loftq", "loftq_config": {"loftq_bits": 4, "loftq_iter": 1}},
}
LAST = {"gpt2": "attn.c_proj", "llama": "o_proj"}  # a layer with another rank and alpha
DRAWN = [
    (kind, name)
    for kind in ("gpt2", "llama")
    for name in INITIALISATIONS
    if kind == "llama" or name not in ("olora", "loftq")
]


@pytest.fixture(autouse=True)
def quantising(monkeypatch) -> None:
    """LoftQ without bitsandbytes: sixteenths, and the best factors for what rounding lost."""

    def loftq_init(weight, num_bits, reduced_rank, num_iter):
        quantised = (weight * 16).round() / 16
        left, values, right = torch.linalg.svd(weight - quantised)
        return quantised.detach(), right[:reduced_rank], left[:, :reduced_rank] * values[:reduced_rank]

    monkeypatch.setattr("peft.tuners.lora.layer.loftq_init", loftq_init)


def settings_for(kind: str, name: str, init: str | None = None) -> PeftMethod:
    options = dict(INITIALISATIONS[name])
    if "rank_pattern" in options:
        options |= {"rank_pattern": {LAST[kind]: 2}, "alpha_pattern": {LAST[kind]: 3}}
    return PeftMethod(options=options, init=init)


def initialised(kind: str, name: str, seed: int, init: str | None = None) -> tuple[Any, Any]:
    """A model with peft's LoRA under one initialisation, drawn from the seed."""
    backbone = copy.deepcopy(tiny.built(kind))
    return backbone, attach(settings_for(kind, name, init), backbone, seed)


def perturb(attachment: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize(("kind", "name"), DRAWN)
def test_what_an_initialisation_drew_is_saved(kind, name, tmp_path):
    """The state alone gives the tuned model back, whatever the other attachment drew: through a file, and as --init."""
    backbone, attachment = initialised(kind, name, seed=0)
    perturb(attachment)
    state = safetensors.torch.load(safetensors.torch.save(attachment.state()))
    twin, other = initialised(kind, name, seed=7)
    other.load(state)
    torch.testing.assert_close(output(twin), output(backbone), atol=1e-5, rtol=1e-5)
    metadata = metadata_of(settings_of(settings_for(kind, name)))
    safetensors.torch.save_file(state, tmp_path / "adapter.safetensors", metadata=metadata)
    third, _ = initialised(kind, name, seed=8, init=str(tmp_path))
    torch.testing.assert_close(output(third), output(backbone), atol=1e-5, rtol=1e-5)
    with attachment.disabled():
        assert torch.equal(output(backbone), output(tiny.built(kind)))
    other.detach()
    assert torch.equal(output(twin), output(tiny.built(kind)))


CHANGING = [case for case in DRAWN if case[1].startswith(("pissa", "olora", "loftq"))]


@pytest.mark.parametrize(("kind", "name"), CHANGING)
def test_a_loaded_start_is_saved_and_exported(kind, name, tmp_path):
    """What is loaded over another draw is trained, saved, loaded again and exported: all from the loaded factors."""
    _, first = initialised(kind, name, seed=0)
    perturb(first)
    backbone, second = initialised(kind, name, seed=7)
    second.load(first.state())
    assert_equal_states(second.state(), first.state())
    perturb(second)
    third, other = initialised(kind, name, seed=8)
    other.load(second.state())
    assert_equal_states(other.state(), second.state())
    torch.testing.assert_close(output(third), output(backbone), atol=1e-5, rtol=1e-5)
    if name == "loftq":
        return
    for file in other.export("peft"):
        file.save(tmp_path / file.name)
    base = copy.deepcopy(tiny.built(kind))
    theirs = peft.PeftModel.from_pretrained(base.model, tmp_path)
    torch.testing.assert_close(output(base, theirs), output(backbone), atol=1e-5, rtol=1e-5)


def assert_equal_states(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("kind", "name"), [case for case in DRAWN if case[1] != "loftq"])
def test_peft_loads_every_initialisation_on_the_unchanged_base(kind, name, tmp_path):
    backbone, attachment = initialised(kind, name, seed=0)
    perturb(attachment)
    for file in attachment.export("peft"):
        file.save(tmp_path / file.name)
    base = copy.deepcopy(tiny.built(kind))
    torch.manual_seed(11)
    theirs = peft.PeftModel.from_pretrained(base.model, tmp_path)
    torch.testing.assert_close(output(base, theirs), output(backbone), atol=1e-5, rtol=1e-5)
    if name.startswith(("pissa", "olora")):
        assert json.loads((tmp_path / "adapter_config.json").read_text())[START] is True


def test_quantised_weights_are_not_exported():
    _, attachment = initialised("llama", "loftq", seed=0)
    assert attachment.export() == []
    with pytest.raises(AdapterError, match="'loftq' quantises the base's weights"):
        attachment.export("peft")


def test_a_state_without_the_changed_weights_is_read():
    """As release 0.1 saved it: PiSSA is the same whenever it attaches."""
    backbone, attachment = initialised("llama", "pissa", seed=0)
    perturb(attachment)
    old = {name: tensor for name, tensor in attachment.state().items() if "initial" not in name}
    assert len(old) < len(attachment.state())
    twin, other = initialised("llama", "pissa", seed=7)
    other.load(old)
    torch.testing.assert_close(output(twin), output(backbone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("saved", ["default", "pissa"])
def test_a_folder_of_peft_does_not_start_from_a_changed_base(saved, tmp_path):
    base = copy.deepcopy(tiny.built("llama"))
    config = peft.LoraConfig(target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], **INITIALISATIONS[saved])
    peft.get_peft_model(base.model, config).save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match="own weights"):
        initialised("llama", "pissa", seed=0, init=str(tmp_path))


def test_initialisation_that_changes_base_weights_is_undone(llama):
    """PiSSA moves a part of W into A and B; the weights are the original ones while disabled and after detach."""
    before = output(llama)
    attachment = PeftMethod(options={"r": 4, "init_lora_weights": "pissa"}).attach(llama)
    with attachment.disabled():
        assert torch.equal(output(llama), before)
    torch.testing.assert_close(output(llama), before, atol=1e-4, rtol=1e-4)
    attachment.detach()
    assert torch.equal(output(llama), before)


@pytest.mark.parametrize("start", ["eva", "corda", "lora_ga"])
def test_initialisations_from_data_are_refused_without_a_model(start):
    with pytest.raises(AdapterError, match=f"'{start}' needs training data before the run"):
        PeftMethod(options={"r": 4, START: start}).check_settings()
