"""Losses by chunks of rows: the values and gradients of all logits together, with less memory."""

import copy
from typing import Any

import pytest
import torch

from adapters.base import attach
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from tasks.language.model import likelihood
from tasks.language.model.backbone import CausalLanguageModel
from tasks.language.model.likelihood import Row
from tests.contract import tiny

CPU = torch.device("cpu")
ALL = 2**40
# targets of the two rows below: 2 x 20; 64 entries in the vocabulary
CHUNKS = {"one row": 64, "seven rows": 7 * 64 + 5, "all but one row": 39 * 64}


def gemma2() -> Any:
    """Its logits have a soft cap."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        final_logit_softcapping=2.0,
    )
    return Gemma2ForCausalLM(config)


MODELS = {"gpt2": tiny.gpt2, "llama": tiny.llama, "gemma2": gemma2}


@pytest.fixture(params=MODELS)
def model(request) -> Any:
    torch.manual_seed(0)
    model = MODELS[request.param]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def batch() -> likelihood.TokenBatch:
    """A row with a prompt of five tokens, and a shorter one: padding and prompt do not count."""
    generator = torch.Generator().manual_seed(3)
    tokens = [torch.randint(64, (length,), generator=generator).tolist() for length in (21, 12)]
    rows: list[Row] = [(tokens[0][:5], tokens[0][5:]), (tokens[1][:1], tokens[1][1:])]
    return likelihood.padded(rows, CPU)


@pytest.mark.parametrize("at_once", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients_are_those_of_all_logits_together(model, at_once, smoothing):
    twin = copy.deepcopy(model)
    whole, chunked = (likelihood.cross_entropy(m, batch(), smoothing, n) for m, n in ((model, ALL), (twin, at_once)))
    torch.testing.assert_close(chunked, whole)
    whole.backward()
    chunked.backward()
    for (name, parameter), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(other.grad, parameter.grad, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("at_once", CHUNKS.values(), ids=CHUNKS)
def test_losses_of_rows_are_those_of_all_logits_together(model, at_once):
    with torch.no_grad():
        nats, tokens = likelihood.row_losses(model, batch(), at_once)
        expected, counts = likelihood.row_losses(model, batch(), ALL)
    torch.testing.assert_close(nats, expected)
    assert tokens.tolist() == counts.tolist() == [16, 11]


@pytest.mark.parametrize("adapter", [Lora(rank=2), PrefixTuning(length=3)], ids=lambda adapter: adapter.name)
def test_hooks_on_the_model_and_its_layers_take_part(model, adapter):
    """A prefix shifts the positions in a hook on the whole model."""
    attachment = attach(adapter, CausalLanguageModel(model), seed=0)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            parameter.normal_(std=0.3)
    gradients = []
    for at_once in (ALL, 64):
        model.zero_grad()
        likelihood.cross_entropy(model, batch(), 0.0, at_once).backward()
        gradients.append([p.grad for p in attachment.parameters().values()])
    for whole, chunked in zip(*gradients, strict=True):
        assert whole.abs().max() > 0
        torch.testing.assert_close(chunked, whole, atol=1e-5 * float(whole.abs().max()), rtol=1e-4)


def test_under_autocast_the_losses_are_computed_in_fp32(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole, chunked = (likelihood.cross_entropy(model, batch(), 0.0, n) for n in (ALL, 64))
    assert chunked.dtype == torch.float32
    torch.testing.assert_close(chunked, whole, atol=1e-5, rtol=1e-5)


def test_few_logits_are_one_call_of_the_model(model):
    """The default leaves the bundled model's batches whole."""
    calls: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda module, args, output: calls.append(output.shape[1]))
    likelihood.cross_entropy(model, batch())
    assert calls == [21]
