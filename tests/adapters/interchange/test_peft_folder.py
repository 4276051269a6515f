"""Prefixes, and peft's own methods, in peft's folder: its loader gives our output, and ours gives it back."""

from dataclasses import replace

import peft
import pytest
import torch

from adapters.errors import AdapterError
from adapters.peft_method import PeftMethod
from adapters.prefix_tuning import PrefixTuning
from tests.adapters.interchange.moved import assert_same_output, exported, started, twin
from tests.contract.tiny import example, output

PLAIN, THROUGH_AN_MLP = PrefixTuning(length=5), PrefixTuning(length=5, reparametrisation=True, hidden=8)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("adapter", [PLAIN, THROUGH_AN_MLP], ids=["plain", "mlp"])
def test_peft_loads_a_prefix_as_it_is(adapter, kind, tmp_path):
    tuned, _ = exported(adapter, kind, tmp_path)
    base = twin(kind)
    theirs = peft.PeftModel.from_pretrained(base.model, tmp_path)
    real = example(base)["attention_mask"].bool()
    torch.testing.assert_close(theirs(**example(base)).logits[real], output(tuned)[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("adapter", [PLAIN, THROUGH_AN_MLP], ids=["plain", "mlp"])
def test_a_prefix_comes_back(adapter, kind, tmp_path):
    tuned, _ = exported(adapter, kind, tmp_path)
    assert_same_output(started(PLAIN, kind, tmp_path), tuned)


def test_a_prefix_of_another_length_or_through_an_mlp_is_refused(tmp_path):
    exported(PLAIN, "gpt2", tmp_path)
    with pytest.raises(AdapterError, match=r"--adapter\.length"):
        started(PrefixTuning(length=6), "gpt2", tmp_path)
    with pytest.raises(AdapterError, match="plain prefix"):
        started(THROUGH_AN_MLP, "gpt2", tmp_path)


@pytest.mark.parametrize(
    ("method", "options"), [("lora", '{"r": 2, "lora_alpha": 8}'), ("vera", '{"r": 4}'), ("ia3", "{}")]
)
@pytest.mark.parametrize("kind", ["gpt2", "unet"])
def test_any_method_of_peft_travels_in_its_folder(method, options, kind, tmp_path):
    adapter = PeftMethod(method=method, options=options)
    tuned, _ = exported(adapter, kind, tmp_path)
    assert_same_output(started(adapter, kind, tmp_path), tuned)
    base = twin(kind)
    theirs = peft.PeftModel.from_pretrained(base.model, tmp_path)
    torch.testing.assert_close(output(base, theirs), output(tuned), atol=1e-5, rtol=1e-5)


def test_other_settings_of_pefts_method_are_refused(tmp_path):
    adapter = PeftMethod(method="lora", options='{"r": 2, "lora_alpha": 8}')
    exported(adapter, "llama", tmp_path)
    with pytest.raises(AdapterError, match="lora_alpha 8, not 4"):
        started(replace(adapter, options='{"r": 2, "lora_alpha": 4}'), "llama", tmp_path)
