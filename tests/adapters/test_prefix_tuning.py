"""Prefix-tuning against peft with the same vectors, in generation, and against attention written out."""

import copy
from typing import Any

import peft
import pytest
import torch

from adapters.errors import AdapterError
from adapters.prefix_tuning import PrefixTuning
from tests.contract.tiny import example, output

LENGTH = 5


def attach_perturbed(backbone, **settings) -> Any:
    torch.manual_seed(0)
    attachment = PrefixTuning(length=LENGTH, **settings).attach(backbone)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            parameter.normal_()
    return attachment


def peft_with_same_vectors(backbone, attachment) -> Any:
    """peft's embedding holds, for each position, the layers' keys and values: (length, layers * 2 * heads * width)."""
    layers = backbone.attention_layers()
    config = peft.PrefixTuningConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        num_virtual_tokens=LENGTH,
        num_layers=len(layers),
        token_dim=layers[0].heads * layers[0].head_width,
        num_attention_heads=layers[0].heads,
    )
    model: Any = peft.get_peft_model(copy.deepcopy(backbone.model), config)
    own = attachment.parameters()
    rows = [own[f"{layer.name}.{part}"].transpose(0, 1).flatten(1) for layer in layers for part in ("key", "value")]
    with torch.no_grad():
        model.prompt_encoder["default"].embedding.weight.copy_(torch.cat(rows, dim=1))
    return model.eval()


def test_output_and_gradient_equal_those_of_peft(language_model):
    twin = copy.deepcopy(language_model)
    attachment = attach_perturbed(language_model)
    reference = peft_with_same_vectors(twin, attachment)
    inputs = example(twin)
    expected = reference(**inputs).logits
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(output(language_model)[real], expected[real], atol=1e-5, rtol=1e-5)
    output(language_model)[real].square().mean().backward()
    expected[real].square().mean().backward()
    layer = language_model.attention_layers()[1]
    ours = attachment.parameters()[f"{layer.name}.value"].grad.transpose(0, 1).flatten(1)
    size = ours.shape[1]
    theirs = reference.prompt_encoder["default"].embedding.weight.grad[:, 3 * size :]
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_generation_equals_that_of_peft(language_model, num_beams):
    twin = copy.deepcopy(language_model)
    reference = peft_with_same_vectors(twin, attach_perturbed(language_model))
    prompt = example(twin)["input_ids"]
    settings = {"num_beams": num_beams, "max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    mask = torch.ones_like(prompt)
    ours = language_model.model.generate(prompt, attention_mask=mask, **settings)
    theirs = reference.generate(input_ids=prompt, attention_mask=mask, **settings)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_generation_without_cache_and_with_left_padding(language_model, num_beams):
    attach_perturbed(language_model)
    prompt = example(language_model)["input_ids"][:1]
    settings = {"num_beams": num_beams, "max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    mask = torch.ones_like(prompt)
    generate = language_model.model.generate
    expected = generate(prompt, attention_mask=mask, **settings)
    assert torch.equal(generate(prompt, attention_mask=mask, use_cache=False, **settings), expected)
    pads = torch.full((1, 3), 2)
    padded = generate(
        torch.cat([pads, prompt], 1), attention_mask=torch.cat([torch.zeros_like(pads), mask], 1), **settings
    )
    assert torch.equal(padded[:, 3:], expected)


def test_eager_attention_gives_the_same_output(language_model):
    attach_perturbed(language_model)
    expected = output(language_model)
    language_model.model.set_attn_implementation("eager")
    torch.testing.assert_close(output(language_model), expected, atol=1e-5, rtol=1e-5)


def test_attention_without_a_mask_is_causal(language_model):
    attach_perturbed(language_model)
    tokens = example(language_model)["input_ids"]
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 64
    first, second = (language_model.model(input_ids=ids).logits for ids in (tokens, changed))
    assert torch.equal(first[:, :-1], second[:, :-1])
    assert not torch.equal(first[:, -1], second[:, -1])


def test_unet_attends_to_prefix_and_context(unet):
    layer = next(layer for layer in unet.attention_layers() if layer.kind == "cross-attention")
    own = attach_perturbed(unet).parameters()
    module = layer.module
    hidden, states = torch.randn(2, 5, module.to_q.in_features), torch.randn(2, 7, module.to_k.in_features)
    result = module(hidden, encoder_hidden_states=states)

    def heads(rows):
        return rows.unflatten(-1, (layer.heads, layer.head_width)).transpose(1, 2)

    front = [own[f"{layer.name}.{name}"].expand(2, -1, -1, -1) for name in ("to_k.key", "to_v.value")]
    weights = [torch.nn.functional.linear(states, projection.weight) for projection in (module.to_k, module.to_v)]
    keys, values = (torch.cat([f, heads(w)], dim=2) for f, w in zip(front, weights, strict=True))
    scores = heads(module.to_q(hidden)) @ keys.transpose(-1, -2) / layer.head_width**0.5
    mixed = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(result, module.to_out[0](mixed), atol=1e-5, rtol=1e-5)


def test_mlp_equals_a_plain_prefix_of_its_vectors(gpt2):
    """A reparametrised prefix gives the output of a plain prefix with the vectors that the MLP computes."""
    twin = copy.deepcopy(gpt2)
    source = attach_perturbed(gpt2, reparametrisation=True, hidden=8)
    target = PrefixTuning(length=LENGTH).attach(twin)
    target.load(
        {f"{n}.{p}": source.updates[n].vectors(p) for n in source.updates if n != "shared" for p in ("key", "value")}
    )
    torch.testing.assert_close(output(twin), output(gpt2), atol=1e-6, rtol=1e-6)


def test_positions_left_are_recorded(gpt2, unet):
    assert attach_perturbed(gpt2).facts["positions_left"] == 64 - LENGTH
    assert attach_perturbed(unet).facts["positions_left"] is None


def test_prefix_longer_than_the_model_is_refused(language_model):
    with pytest.raises(AdapterError, match="64 positions"):
        PrefixTuning(length=64).attach(language_model)
    assert not list(language_model.model._forward_pre_hooks)


def test_input_longer_than_the_positions_left_is_refused(gpt2):
    attach_perturbed(gpt2)
    with pytest.raises(AdapterError, match=r"input of 60 tokens .*set --adapter.length to at most 4$"):
        gpt2.model(input_ids=torch.zeros(1, 60, dtype=torch.long))
