"""peft's methods by name: each one that can work does so and leaves no trace; the others say so before training."""

import copy
from typing import Any

import pytest
import torch

from adapters.errors import AdapterError
from adapters.peft_method import PeftMethod
from tests.contract import tiny
from tests.contract.tiny import loss, output

# methods with options small enough for layers of width 32
ANYWHERE = {
    "lora": '{"r": 2, "use_dora": true}',
    "ia3": "{}",
    "ln_tuning": "{}",
    "fourierft": '{"n_frequency": 20}',
    "randlora": '{"r": 2}',
    "hira": '{"r": 2}',
    "waveft": '{"n_frequency": 20}',
    "gralora": '{"r": 4}',
    "deft": '{"r": 2}',
    "vera": '{"r": 4}',
    "pvera": '{"r": 4}',
    "vblora": '{"vector_length": 4, "num_vectors": 16, "topk": 2}',
    "unilora": "{}",
    "tinylora": "{}",
}
LINEAR_LAYERS_ONLY = {
    "boft": '{"boft_block_size": 4}',
    "oft": '{"oft_block_size": 4}',
    "beft": "{}",
    "lily": "{}",
    "loha": "{}",
    "lokr": "{}",
    "glora": "{}",
    "hra": '{"r": 2}',
    "c3a": '{"block_size": 8}',
    "delora": '{"r": 2}',
    "psoft": '{"r": 2}',
    "peanut": "{}",
    "supertuning": "{}",
    "miss": '{"r": 2}',
    "road": '{"group_size": 8}',
    "shira": '{"r": 2}',
    "osf": "{}",
}
CASES = [(kind, *case) for kind in tiny.BUILDERS for case in ANYWHERE.items()]
CASES += [(kind, *case) for kind in ("llama", "unet") for case in LINEAR_LAYERS_ONLY.items()]


@pytest.mark.parametrize(("kind", "method", "options"), CASES)
def test_trains_and_leaves_no_trace(kind, method, options):
    backbone = copy.deepcopy(tiny.built(kind))
    before, names = output(backbone), list(backbone.model.state_dict())
    torch.manual_seed(0)
    attachment = PeftMethod(method=method, options=options).attach(backbone)
    loss(backbone).backward()
    owned = attachment.parameters().values()
    assert any(parameter.grad is not None for parameter in owned)
    with torch.no_grad():
        for parameter in owned:
            parameter.add_(0.1 * torch.rand_like(parameter))
    assert not torch.equal(output(backbone), before)
    twin = copy.deepcopy(tiny.built(kind))
    torch.manual_seed(7)
    PeftMethod(method=method, options=options).attach(twin).load(attachment.state())
    torch.testing.assert_close(output(twin), output(backbone), atol=1e-5, rtol=1e-5)
    with attachment.disabled():
        assert torch.equal(output(backbone), before)
    attachment.detach()
    assert torch.equal(output(backbone), before)
    assert list(backbone.model.state_dict()) == names
    assert not [m for m in backbone.model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert all(parameter.requires_grad for parameter in backbone.model.parameters())


@pytest.mark.parametrize(("method", "options"), LINEAR_LAYERS_ONLY.items())
def test_methods_for_linear_layers_say_so_on_gpt2(gpt2, method, options):
    before = output(gpt2)
    with pytest.raises(AdapterError):
        PeftMethod(method=method, options=options).attach(gpt2)
    assert torch.equal(output(gpt2), before)
    assert all(parameter.requires_grad for parameter in gpt2.model.parameters())


def test_initialisations_that_change_the_base_weights_are_undone(llama):
    """PiSSA moves a part of W into A and B; disabled and detached the weights are those before."""
    before = output(llama)
    attachment = PeftMethod(options='{"r": 4, "init_lora_weights": "pissa"}').attach(llama)
    with attachment.disabled():
        assert torch.equal(output(llama), before)
    torch.testing.assert_close(output(llama), before, atol=1e-4, rtol=1e-4)
    attachment.detach()
    assert torch.equal(output(llama), before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "lorra"}, "it has ada"),
        ({"method": "prefix_tuning"}, "take the method prefix"),
        ({"method": "adalora"}, "training loop"),
        ({"options": "r=8"}, "must be JSON"),
        ({"options": '{"rank": 8}'}, "no option 'rank'"),
        ({"options": '{"r": 0}'}, "peft's lora"),
        ({"targets": ("attn",)}, "the roles are"),
        ({"options": '{"target_modules": ["nothing"]}'}, "does not work"),
    ],
)
def test_settings_that_cannot_work(llama, settings, message):
    with pytest.raises(AdapterError, match=message):
        PeftMethod(**settings).attach(llama)


def test_recommended_layers_that_the_method_cannot_update_are_left_out(unet):
    unet.recommended_targets = ("all",)
    attachment = PeftMethod("vera", options='{"r": 8}').attach(unet)
    taken: Any = attachment.facts["targets"]
    assert taken["self-attention.query"]
    assert not any("convolution" in role for role in taken)
    attachment.detach()
    with pytest.raises(AdapterError, match="vera"):
        PeftMethod("vera", options='{"r": 8}', targets=("all",)).attach(unet)
