"""Bases in nf4 and int8 as bitsandbytes loads them, on its CPU kernels; a run itself asks for CUDA."""

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from experiments.measure.memory.quantised_layers import quantise
from tasks.language.model import bases, likelihood

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def allowed_on_a_cpu(monkeypatch):
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr("tasks.pretrained.precision.check_quantisation", lambda *_: None)


def stored(layer: torch.nn.Module) -> int:
    """Bytes of a layer's weight with its scales, as saved."""
    tensors = {name: tensor for name, tensor in layer.state_dict().items() if name != "bias"}
    named = ("nested_quant_map", "quant_map", "bitsandbytes", "weight_format")  # tables of 16 or 256 entries, settings
    return sum(t.numel() * t.element_size() for name, t in tensors.items() if not any(part in name for part in named))


@pytest.mark.parametrize(("precision", "within"), [("nf4", 0.05), ("int8", 0.01)])
def test_quantised_weights_are_small_and_close(precision, within):
    whole, quantised = (bases.load("gpt-mini", CPU, precision=each) for each in ("fp32", precision))
    text = "The sun was warm, and the old man walked down to the river with his dog."
    rows = [(whole.prompt_ids("Once upon a time\n"), whole.text_ids(text))]
    expected, found = (likelihood.losses(base, rows).mean for base in (whole, quantised))
    assert found == pytest.approx(expected, rel=within)
    assert found != expected

    planned = bases.load("gpt-mini", CPU).model
    quantise(planned, precision, torch.float32)
    layers = {name for name, module in whole.model.named_modules() if isinstance(module, Conv1D)}
    assert layers
    for name in layers:
        real, plan = (model.get_submodule(name) for model in (quantised.model, planned))
        assert stored(real) == pytest.approx(stored(plan), rel=0.02), name
