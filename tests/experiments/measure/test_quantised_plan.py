"""Quantised bases in a prediction: the bytes of bitsandbytes' formats, and a step that runs."""

import json
from functools import partial

import pytest
import torch

from adapters.base import adapter_registry
from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.measure.memory.prediction import predict
from experiments.training.accelerator import LossModule
from experiments.training.memory_tracker import WEIGHTS, MemoryTracker
from tasks.language.model.backbone import CausalLanguageModel
from tasks.language.model.cards import card_of
from tasks.language.model.likelihood import TokenBatch, cross_entropy
from tasks.language.style import Style
from tasks.pretrained.precision import loading_options

CPU = torch.device("cpu")

WIDTH, LAYERS, VOCABULARY, HIDDEN = 64, 3, 300, 192
LLAMA = {"model_type": "llama", "hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_hidden_layers": LAYERS}
GPT2 = {"model_type": "gpt2", "n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 64}
SHAPES = {
    "llama": LLAMA | {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 64},
    "gpt2": GPT2,
}
IN_LAYERS = {  # weights of the layers that are quantised, and their output features
    "llama": (LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * HIDDEN), LAYERS * (5 * WIDTH + 2 * HIDDEN)),
    "gpt2": (LAYERS * 12 * WIDTH * WIDTH, LAYERS * 9 * WIDTH),
}


@pytest.fixture(params=SHAPES)
def kind(request):
    return request.param


@pytest.fixture
def base(kind, tmp_path):
    tokens = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
    (tmp_path / "config.json").write_text(json.dumps(SHAPES[kind] | tokens))
    return str(tmp_path)


def predicted(base, precision, method="lora", **train):
    task = Style(base=base, max_length=32, base_precision=precision, test_items=4, drift_items=2)
    settings = Train(device="cpu", batch_size=2, mixed_precision="bf16", **train)
    return predict(RunConfig(adapter_registry()[method](), task, settings).resolved())


@pytest.mark.parametrize("method", ["lora", "bottleneck", "prefix"])
def test_bytes_of_the_formats(kind, base, method):
    """nf4: half a byte a weight, a byte for 64, four bytes for 64 * 256; int8: a byte and four for each output."""
    weights, outputs = IN_LAYERS[kind]
    half, nf4, int8 = (
        predicted(base, precision, method).training.timeline.by_category()[WEIGHTS]
        for precision in ("bf16", "nf4", "int8")
    )
    assert half - nf4 == pytest.approx(weights * (2 - 1 / 2 - 1 / 64 - 4 / (64 * 256)), rel=0.01)
    assert half - int8 == weights * (2 - 1) - 4 * outputs


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_quantised_layer_computes_with_a_temporary_copy(base, checkpointing):
    half, nf4 = (predicted(base, p, gradient_checkpointing=checkpointing) for p in ("bf16", "nf4"))
    assert nf4.peak < half.peak
    assert nf4.trainable == half.trainable
    assert nf4.training.flops == pytest.approx(half.training.flops, rel=0.01)
    int8 = predicted(base, "int8", gradient_checkpointing=checkpointing)
    assert int8.training.flops == pytest.approx(half.training.flops, rel=0.01)


@pytest.fixture
def layers_of_cuda(monkeypatch):
    """bitsandbytes' layers on its CPU kernels, with the products that it chooses on CUDA."""
    pytest.importorskip("bitsandbytes")
    from bitsandbytes.autograd._functions import MatMul8bitLt

    def matmul(hidden, weight, out=None, state=None, threshold=0.0, bias=None):
        return MatMul8bitLt.apply(hidden, weight, out, bias, state)

    monkeypatch.setattr("bitsandbytes.matmul", matmul)
    monkeypatch.setattr("tasks.pretrained.precision.check_quantisation", lambda *_: None)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("precision", "within"), [("bf16", 0.001), ("nf4", 0.01), ("int8", 0.06)])
def test_real_layers_keep_what_is_planned(base, layers_of_cuda, precision, within, checkpointing):
    """Two steps of LoRA on a random base that transformers loads in this precision, tracked.

    The tracker does not see what int8's kernel allocates inside; the inputs that it keeps are 9 % and more.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base)).save_pretrained(base)
    options = loading_options(precision, CPU, BitsAndBytesConfig)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, **options).requires_grad_(False)
    backbone = CausalLanguageModel(model, tuple(card_of(base)["targets"]))
    attachment = Lora().attach(backbone)
    backbone.set_gradient_checkpointing(checkpointing)
    loss = LossModule(model, partial(cross_entropy, model)).train()
    optimizer = torch.optim.AdamW(attachment.parameters().values())
    tracker = MemoryTracker()
    tracker.watch(loss, optimizer)
    with tracker:
        for _ in range(2):
            tokens = torch.zeros(2, 32, dtype=torch.long)
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(TokenBatch(tokens, tokens.clone(), tokens.numel()))
            del tokens
            value.backward()
            del value
            optimizer.step()
            optimizer.zero_grad()
    tracker.unwatch()
    planned = predicted(base, precision, gradient_checkpointing=checkpointing).training
    assert sum(tracker.peak.values()) == pytest.approx(planned.peak, rel=within)
