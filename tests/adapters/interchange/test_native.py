"""Our own adapter files: those of release 0.1 (aa86512) still load, although methods and settings were renamed.

`release_0_1/` holds one file per renaming, written on the tiny Llama of `tests.contract.tiny` with random parameters:
Lora(rank=2, alpha=8, rank_stabilised=True, initialisation="normal", targets=("query", "value")), the method then
called `adapter` (width=2, placement="pfeiffer"), and peft's vera with options '{"r": 2}' as a JSON text.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.base import Adapter, attach
from adapters.bottleneck import Bottleneck
from adapters.errors import AdapterError
from adapters.interchange.native import SETTINGS
from adapters.lora import Lora
from adapters.peft_method import PeftMethod
from tests.adapters.interchange.round_trip import fresh_backbone

FILES = Path(__file__).parent / "release_0_1"
LORA = Lora(rank=2, alpha=8.0, use_rslora=True, init_lora_weights="gaussian", targets=("query", "value"))
BOTTLENECK = Bottleneck(width=2, placement="pfeiffer")
VERA = PeftMethod(method="vera", options={"r": 2}, targets=("query",))


def load(adapter: Adapter, name: str) -> Any:
    return attach(replace(adapter, init=str(FILES / f"{name}.safetensors")), fresh_backbone("llama"))


@pytest.mark.parametrize(("adapter", "name"), [(LORA, "lora"), (BOTTLENECK, "bottleneck"), (VERA, "vera")])
def test_state_is_that_of_the_file(adapter, name):
    state, saved = load(adapter, name).state(), load_file(FILES / f"{name}.safetensors")
    assert state.keys() - saved.keys() <= {"projection_prng_key"}, "not saved then: it was peft's own"
    for key in saved:
        torch.testing.assert_close(state[key], saved[key])


@pytest.mark.parametrize("local", [LORA, Lora(rank=2, targets=("query", "value"))], ids=["same", "plain"])
def test_rank_stabilised_scale_is_read(local):
    """The change of each weight is 8 / sqrt(2) B A, whatever the local scaling rule."""
    saved = load_file(FILES / "lora.safetensors")
    for name, update in load(local, "lora").updates.items():
        expected = 8 / math.sqrt(2) * saved[f"{name}.lora_B"] @ saved[f"{name}.lora_A"]
        torch.testing.assert_close(update.delta(), expected)


@pytest.mark.parametrize(
    ("adapter", "name", "match"),
    [
        (replace(BOTTLENECK, width=3), "bottleneck", "saved with --adapter.width 2, not 3"),
        (replace(VERA, options={"r": 4}), "vera", "saved with --adapter.options"),
        (LORA, "bottleneck", "holds the method 'bottleneck', not 'lora'"),
    ],
)
def test_other_settings_are_refused(adapter, name, match):
    with pytest.raises(AdapterError, match=match):
        load(adapter, name)


@pytest.mark.parametrize(("rank_stabilised", "scale"), [(False, 1.0), (True, math.sqrt(2))])
@pytest.mark.parametrize("alpha", ["rank", 16.0])
def test_without_alpha_the_file_of_a_lora_has_alpha_rank(alpha, rank_stabilised, scale, tmp_path):
    """Release 0.1 wrote null for its default, alpha = rank. The change of each weight is the same under any local
    alpha, and in the export."""
    tensors = load_file(FILES / "lora.safetensors")
    settings = {"name": "lora", "rank": 2, "alpha": None, "rank_stabilised": rank_stabilised}
    save_file(tensors, tmp_path / "adapter.safetensors", metadata={SETTINGS: json.dumps(settings)})
    local = Lora(rank=2, alpha=alpha, targets=("query", "value"), init=str(tmp_path / "adapter.safetensors"))
    attachment: Any = attach(local, fresh_backbone("llama"))
    for name, update in attachment.updates.items():
        expected = scale * tensors[f"{name}.lora_B"] @ tensors[f"{name}.lora_A"]
        torch.testing.assert_close(update.delta(), expected)
    for file in attachment.export("peft"):
        file.save(tmp_path / file.name)
    exported: Any = attach(replace(LORA, init=str(tmp_path / "adapter_model.safetensors")), fresh_backbone("llama"))
    for name, update in exported.updates.items():
        torch.testing.assert_close(update.delta(), attachment.updates[name].delta())
