"""FLOP counts against hand computation, and against the same model with another attention kernel."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments.measure.flops import Peak, adamw_flops, count_step, measured_peak, throughput
from tasks.language.model.backbone import CausalLanguageModel
from tests.contract import tiny


def test_linear_by_hand():
    layer = nn.Linear(5, 7)
    inputs = torch.randn(3, 5, requires_grad=True)
    counted = count_step(lambda: layer(inputs).sum(), layer.parameters())
    assert counted.forward == 2 * 3 * 5 * 7
    assert counted.backward == 2 * counted.forward  # the weight's gradient and the input's
    assert counted.optimizer == 14 * (5 * 7 + 7)
    assert counted.total == counted.forward + counted.backward + counted.optimizer
    assert layer.weight.grad is None
    assert inputs.grad is not None


def test_every_accumulated_micro_batch_counts():
    layer = nn.Linear(5, 7)
    once, twice = (count_step(lambda: layer(torch.ones(3, 5)).sum(), layer.parameters(), n) for n in (1, 2))
    assert (twice.forward, twice.backward, twice.optimizer) == (2 * once.forward, 2 * once.backward, once.optimizer)


@pytest.mark.parametrize("keys", [6, 9])
def test_fused_attention_by_hand(keys):
    batch, heads, queries, width = 2, 3, 6, 8
    q = torch.randn(batch, heads, queries, width, requires_grad=True)
    k, v = (torch.randn(batch, heads, keys, width, requires_grad=True) for _ in range(2))
    counted = count_step(lambda: F.scaled_dot_product_attention(q, k, v).sum(), [])
    product = 2 * batch * heads * queries * keys * width
    assert counted.forward == 2 * product  # the scores, and the sum of the values
    assert counted.backward == 5 * product  # the scores again, and two gradients per product


def language_model(attention: str):
    torch.manual_seed(0)
    return tiny.gpt2(width=32, layers=2, heads=4, attn_implementation=attention).train()


def tokens() -> torch.Tensor:
    return torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(0))


def counted_with(attention: str):
    model = language_model(attention)
    return count_step(lambda: model(tokens(), labels=tokens()).loss, model.parameters())


def test_fused_attention_equals_the_model_with_plain_products():
    fused, plain = counted_with("sdpa"), counted_with("eager")
    assert fused.forward == plain.forward
    scores = 2 * 2 * 4 * 16 * 16 * 8  # (batch, heads, queries, keys, head width): the fused kernel recomputes them
    assert fused.backward == plain.backward + 2 * scores  # in each of the two layers


def test_gpt2_follows_the_2_n_d_rule():
    """2 N D (Kaplan et al. 2020, arXiv 2001.08361, section 2.1): N weights of matrices, D tokens; and attention."""
    model = language_model("sdpa")
    counted = count_step(lambda: model(tokens(), labels=tokens()).loss, model.parameters())
    width, batch, length = 32, 2, 16
    matrices = 2 * 12 * width**2 + width * 64  # qkv and output 4, feed-forward 8 per layer; the tied head
    attention = 2 * 2 * 2 * batch * length**2 * width  # two layers, two products
    assert counted.forward == 2 * matrices * batch * length + attention
    # gradients of weights and inputs cost one forward each; attention's cost 5 / 2 of its forward
    assert counted.backward == 2 * 2 * matrices * batch * length + attention * 5 // 2


def test_lora_saves_the_weight_gradients_only():
    counts = {}
    for adapter in (FullFinetuning(), Lora(rank=1)):
        backbone = CausalLanguageModel(language_model("sdpa"))
        attachment = adapter.attach(backbone)
        counts[adapter.name] = count_step(
            lambda model=backbone.model: model(tokens(), labels=tokens()).loss, attachment.parameters().values()
        )
    assert counts["lora"].forward > counts["full"].forward
    passes = {name: counted.forward + counted.backward for name, counted in counts.items()}
    assert 0.6 < passes["lora"] / passes["full"] < 0.75


def test_checkpointing_counts_the_recomputation_as_backward():
    backbone = CausalLanguageModel(language_model("sdpa"))
    attachment = FullFinetuning().attach(backbone)

    def count():
        return count_step(lambda: backbone.model(tokens(), labels=tokens()).loss, attachment.parameters().values())

    plain = count()
    backbone.set_gradient_checkpointing(True)
    checkpointed = count()
    head = 2 * 2 * 16 * 32 * 64  # outside the blocks
    last = 2 * 2 * 2 * 16 * 128 * 32  # the last product of both blocks: no gradient needs its result
    assert checkpointed.forward == plain.forward
    assert checkpointed.backward == plain.backward + plain.forward - head - last


def test_counting_changes_nothing():
    model = language_model("sdpa")
    before = copy.deepcopy(model.state_dict())
    count_step(lambda: model(tokens(), labels=tokens()).loss, model.parameters())
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


class Elementwise(TorchDispatchMode):
    """Counts the elementwise operations that torch's AdamW consists of, one by one."""

    OPERATIONS = {"mul_": 1, "lerp_": 3, "addcmul_": 3, "sqrt": 1, "div": 1, "add_": 1, "addcdiv_": 3}  # noqa: RUF012

    def __init__(self, size: int):
        super().__init__()
        self.size, self.total = size, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.numel() == self.size:
            name = func.overloadpacket.__name__
            self.total += self.size * (0 if name in ("detach", "zeros_like") else self.OPERATIONS[name])
        return result


def test_the_adamw_formula_matches_torch():
    parameter = nn.Parameter(torch.ones(50))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.1, foreach=False)
    for _ in range(2):  # the first step creates the state
        parameter.grad = torch.ones(50)
        with Elementwise(50) as counter:
            optimizer.step()
    assert counter.total == adamw_flops(50)


def test_the_peak_is_measured_once_and_described():
    peak = measured_peak("cpu")
    assert peak.flops_per_second > 1e6
    assert "1024 x 1024 float32 matrices on cpu" in peak.how
    assert measured_peak("cpu") is peak


def test_throughput_by_hand():
    result = throughput([0.1, 0.2, 0.4, 0.3, 0.2], samples=8, tokens=400, flops=1000, peak=Peak(10_000.0, ""))
    assert (result.step_seconds, result.low, result.high, result.n) == pytest.approx((0.2, 0.2, 0.3, 5))
    assert (result.samples_per_second, result.tokens_per_second) == pytest.approx((40, 2000))
    assert result.share_of_peak == pytest.approx(0.5)
