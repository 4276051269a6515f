"""Prefixes and peft's own methods in peft's folder: its loader and ours reproduce the output."""

import json
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch

from adapters.errors import AdapterError
from adapters.lora import Lora
from adapters.peft_method import PeftMethod
from adapters.prefix_tuning import PrefixTuning
from tests.adapters.interchange.round_trip import (
    assert_same_output,
    attach_perturbed,
    export_perturbed,
    fresh_backbone,
    load_backbone,
    save_files,
)
from tests.contract.tiny import example, output

PLAIN, THROUGH_AN_MLP = PrefixTuning(length=5), PrefixTuning(length=5, reparametrisation=True, hidden=8)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("adapter", [PLAIN, THROUGH_AN_MLP], ids=["plain", "mlp"])
def test_peft_loads_a_prefix(adapter, kind, tmp_path):
    tuned, _ = export_perturbed(adapter, kind, tmp_path)
    base = fresh_backbone(kind)
    theirs = peft.PeftModel.from_pretrained(base.model, tmp_path)
    real = example(base)["attention_mask"].bool()
    torch.testing.assert_close(theirs(**example(base)).logits[real], output(tuned)[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("adapter", [PLAIN, THROUGH_AN_MLP], ids=["plain", "mlp"])
def test_prefix_round_trip(adapter, kind, tmp_path):
    tuned, _ = export_perturbed(adapter, kind, tmp_path)
    assert_same_output(load_backbone(PLAIN, kind, tmp_path), tuned)


def test_prefix_of_another_length_or_with_an_mlp_is_refused(tmp_path):
    export_perturbed(PLAIN, "gpt2", tmp_path)
    with pytest.raises(AdapterError, match=r"--adapter\.length"):
        load_backbone(PrefixTuning(length=6), "gpt2", tmp_path)
    with pytest.raises(AdapterError, match="plain prefix"):
        load_backbone(THROUGH_AN_MLP, "gpt2", tmp_path)


@pytest.mark.parametrize(("method", "options"), [("lora", {"r": 2, "lora_alpha": 8}), ("vera", {"r": 4}), ("ia3", {})])
@pytest.mark.parametrize("kind", ["gpt2", "unet"])
def test_round_trip_of_pefts_methods(method, options, kind, tmp_path):
    adapter = PeftMethod(method=method, options=options)
    tuned, _ = export_perturbed(adapter, kind, tmp_path)
    assert_same_output(load_backbone(adapter, kind, tmp_path), tuned)
    base = fresh_backbone(kind)
    theirs = peft.PeftModel.from_pretrained(base.model, tmp_path)
    torch.testing.assert_close(output(base, theirs), output(tuned), atol=1e-5, rtol=1e-5)


def test_folder_saved_with_other_options_is_refused(tmp_path):
    adapter = PeftMethod(method="lora", options={"r": 2, "lora_alpha": 8})
    export_perturbed(adapter, "llama", tmp_path)
    with pytest.raises(AdapterError, match="lora_alpha 8, not 4"):
        load_backbone(replace(adapter, options={"r": 2, "lora_alpha": 4}), "llama", tmp_path)


@pytest.mark.parametrize(
    ("name", "shareable"),
    [
        ("openai-community/gpt2", "openai-community/gpt2"),
        ("/home/anna/.cache/huggingface/hub/models--openai-community--gpt2/snapshots/607a30d", "openai-community/gpt2"),
        ("/home/anna/models/mine", None),
        (Path("/home/anna/models/mine"), None),
        ("./mine", None),
        (None, None),
        ("", None),
    ],
)
@pytest.mark.parametrize(
    "adapter", [Lora(rank=2), PeftMethod(options={"r": 2}), PeftMethod("ia3")], ids=lambda a: a.label
)
@pytest.mark.parametrize("kind", ["unet", "llama"])
def test_the_configuration_names_no_folder_of_this_machine(adapter, kind, name, shareable, tmp_path):
    """Nor does a UNet, whose name is a Path in diffusers, end in a traceback; peft loads it elsewhere."""
    backbone = fresh_backbone(kind)
    object.__setattr__(backbone.model.config, "_name_or_path", name)
    backbone.model.__dict__["name_or_path"] = name
    attachment = attach_perturbed(adapter, backbone)
    save_files(attachment.export("peft"), tmp_path)
    text = (tmp_path / "adapter_config.json").read_text()
    assert json.loads(text)["base_model_name_or_path"] == shareable
    assert "anna" not in text
    base = fresh_backbone(kind)
    theirs = peft.PeftModel.from_pretrained(base.model, tmp_path)
    torch.testing.assert_close(output(base, theirs), output(backbone), atol=1e-5, rtol=1e-5)
