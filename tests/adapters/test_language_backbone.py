"""Roles, shapes and fused rows of GPT-2 and Llama."""

import pytest
import torch
from torch import nn

from tasks.errors import TaskError
from tasks.language.model.backbone import CausalLanguageModel


def test_fused_rows_of_gpt2_are_query_key_and_value(gpt2):
    projections = {projection.part: projection for projection in gpt2.projections("self-attention")[:3]}
    assert {part: projection.rows for part, projection in projections.items()} == {
        "query": (0, 32),
        "key": (32, 64),
        "value": (64, 96),
    }
    assert len({projection.key for projection in gpt2.all_projections()}) == len(gpt2.all_projections()) == 12


def test_a_key_names_one_projection(gpt2):
    for projection in gpt2.all_projections():
        assert gpt2.projections(projection.key) == [projection]


def test_fused_key_rows_give_the_attentions_keys(gpt2):
    """Zero key rows make attention uniform: the first of two tokens sees only itself, the second both equally."""
    key = gpt2.projections("key")[0]
    with torch.no_grad():
        key.module.weight[:, slice(*key.rows)] = 0
        key.module.bias[slice(*key.rows)] = 0
    gpt2.model.set_attn_implementation("eager")
    weights = gpt2.model(input_ids=torch.tensor([[3, 4]]), output_attentions=True).attentions[0]
    torch.testing.assert_close(weights[0, 0], torch.tensor([[1.0, 0.0], [0.5, 0.5]]))


def test_roles_and_shapes_of_llama(llama):
    shapes = {p.role: (p.in_features, p.out_features, p.transposed) for p in llama.all_projections()}
    assert shapes == {
        "self-attention.query": (32, 32, False),
        "self-attention.key": (32, 16, False),
        "self-attention.value": (32, 16, False),
        "self-attention.output": (32, 32, False),
        "feed-forward.gate": (32, 64, False),
        "feed-forward.in": (32, 64, False),
        "feed-forward.out": (64, 32, False),
    }


def test_sublayers_sum_to_the_residual_stream(language_model):
    """A block adds its sublayers' outputs to its input, which is what a bottleneck relies on."""
    block = language_model.blocks()[0]
    tensors = {}
    for sublayer in block.sublayers:
        sublayer.module.register_forward_hook(lambda m, i, out, kind=sublayer.kind: tensors.update({kind: out}))
    block.module.register_forward_hook(lambda m, args, out: tensors.update(input=args[0], out=out))
    language_model.model(**language_model.example_input())
    total = tensors["input"] + tensors["self-attention"][0] + tensors["feed-forward"]
    torch.testing.assert_close(tensors["out"], total, atol=1e-5, rtol=1e-5)


def test_unknown_architecture_is_refused():
    with pytest.raises(TaskError, match="Sequential is not supported"):
        CausalLanguageModel(nn.Sequential(nn.Linear(2, 2)))
