"""LoRA against peft, loralib, the closed forms of its gradients, and arbitrary updates at full rank."""

import copy
from typing import Any

import loralib
import peft
import pytest
import torch
from torch.nn import functional

from adapters.backbone import Backbone, Projection
from adapters.base import attach
from adapters.errors import AdapterError
from adapters.lora import Lora
from tests.contract import tiny
from tests.contract.tiny import loss, output


def attach_perturbed(backbone, **settings) -> Any:
    """The attached LoRA with random A and B."""
    torch.manual_seed(5)
    attachment = Lora(**settings).attach(backbone)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            parameter.normal_(std=0.3)
    return attachment


@pytest.mark.parametrize("kind", tiny.BUILDERS)
@pytest.mark.parametrize("use_rslora", [False, True])
def test_output_and_gradients_equal_those_of_peft(kind, use_rslora):
    backbone = copy.deepcopy(tiny.built(kind))
    twin = copy.deepcopy(backbone)
    targets = ("output",) if kind == "gpt2" else ("query", "output")  # peft adapts c_attn as a whole
    attachment = attach_perturbed(backbone, rank=3, alpha=12, targets=targets, use_rslora=use_rslora)
    updates = attachment.updates.values()
    modules = [update.projection.name for update in updates]
    config = peft.LoraConfig(r=3, lora_alpha=12, target_modules=modules, use_rslora=use_rslora)
    config.fan_in_fan_out = kind == "gpt2"
    peft.inject_adapter_in_model(config, twin.model)
    for update in updates:
        layer = twin.model.get_submodule(update.projection.name)
        layer.lora_A["default"].weight.data.copy_(update.down)
        layer.lora_B["default"].weight.data.copy_(update.up)
    torch.testing.assert_close(output(backbone), output(twin), atol=1e-6, rtol=1e-5)
    for side in (backbone, twin):
        loss(side).backward()
    for update in updates:
        layer = twin.model.get_submodule(update.projection.name)
        for ours, theirs in ((update.down, layer.lora_A), (update.up, layer.lora_B)):
            torch.testing.assert_close(ours.grad, theirs["default"].weight.grad, atol=1e-6, rtol=1e-4)


def test_fused_query_and_value_equal_merged_linear_of_loralib(gpt2):
    """As in the paper's experiments, loralib updates the query and value rows of GPT-2's c_attn."""
    projections = gpt2.projections("query", "value")[:2]
    fused = projections[0].module
    attachment = attach_perturbed(gpt2, rank=4, alpha=32, targets=("query", "value"))
    reference: Any = loralib.MergedLinear(32, 96, r=4, lora_alpha=32, enable_lora=[True, False, True])
    updates = [attachment.updates[projection.key] for projection in projections]
    with torch.no_grad():
        reference.weight.copy_(fused.weight.T)
        reference.bias.copy_(fused.bias)
        reference.lora_A.copy_(torch.cat([update.down for update in updates]))
        reference.lora_B.copy_(torch.cat([update.up for update in updates]))
    hidden = torch.randn(2, 5, 32)
    torch.testing.assert_close(fused(hidden), reference(hidden), atol=1e-5, rtol=1e-5)
    fused(hidden).square().sum().backward()
    reference(hidden).square().sum().backward()
    for index, update in enumerate(updates):
        rows = slice(4 * index, 4 * index + 4), slice(32 * index, 32 * index + 32)
        torch.testing.assert_close(update.down.grad, reference.lora_A.grad[rows[0]], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(update.up.grad, reference.lora_B.grad[rows[1]], atol=1e-3, rtol=1e-4)


def test_gradients_equal_the_closed_forms(llama):
    """For y = (W + s B A) x: dL/dB = s (dL/dy)^T x A^T and dL/dA = s B^T (dL/dy)^T x."""
    attachment = attach_perturbed(llama, rank=3, alpha=6, targets=("feed-forward.in",))
    update = next(iter(attachment.updates.values()))
    down, up = update.down, update.up
    hidden, upstream = torch.randn(7, 32), torch.randn(7, 64)
    update.module(hidden).backward(upstream)
    full = upstream.T @ hidden
    torch.testing.assert_close(up.grad, 2 * full @ down.detach().T, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(down.grad, 2 * up.detach().T @ full, atol=1e-5, rtol=1e-5)


def test_full_rank_represents_any_update(llama):
    """B = U S, A = V^T of a random full-rank matrix gives exactly that update."""
    attachment = attach_perturbed(llama, rank=32, alpha="rank", targets=("self-attention.query",))
    update = next(iter(attachment.updates.values()))
    target = torch.randn(32, 32)
    left, values, right = torch.linalg.svd(target)
    with torch.no_grad():
        update.up.copy_(left * values)
        update.down.copy_(right)
    hidden = torch.randn(4, 32)
    base = functional.linear(hidden, update.module.weight + target, update.module.bias)
    torch.testing.assert_close(update.module(hidden), base, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(update.delta(), target, atol=1e-4, rtol=1e-4)


def test_training_finds_the_best_update_of_its_rank(llama):
    target = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))

    def distance(rank: int) -> float:
        backbone = copy.deepcopy(llama)
        update = next(iter(attach_perturbed(backbone, rank=rank, targets=("self-attention.query",)).updates.values()))
        optimizer = torch.optim.LBFGS(
            [update[name] for name in update.names], max_iter=300, line_search_fn="strong_wolfe"
        )

        def closure() -> Any:
            optimizer.zero_grad()
            error = (update.delta() - target).square().sum() / target.square().sum()
            error.backward()
            return error

        optimizer.step(closure)
        return closure().item()

    best_of_rank_4 = float(torch.linalg.svdvals(target)[4:].square().sum() / target.square().sum())
    assert distance(32) < 1e-4
    assert distance(4) == pytest.approx(best_of_rank_4, rel=1e-2)  # Eckart and Young


def test_convolution_update_changes_the_kernel(unet):
    update = next(iter(attach_perturbed(unet, rank=2, targets=("convolution",)).updates.values()))
    picture = torch.randn(1, 4, 8, 8)
    changed = functional.conv2d(picture, update.module.weight + update.delta(), update.module.bias, padding=1)
    torch.testing.assert_close(update.module(picture), changed, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "--adapter.rank must be at least 1"),
        ({"dropout": 1.0}, "dropout"),
        ({"targets": ("attn",)}, "the roles are"),
        ({"ranks": {"feed-forward": 2}}, "no targeted layer"),
        ({"ranks": {"attention": 0}}, "trains no parameter"),
    ],
)
def test_invalid_settings(gpt2, settings, message):
    with pytest.raises(AdapterError, match=message):
        attach(Lora(**settings), gpt2)


class OneMatrix(Backbone):
    """A linear map as a model."""

    library = "transformers"

    def __init__(self, features: int):
        self.model = torch.nn.Sequential(torch.nn.Linear(features, features, bias=False))
        torch.nn.init.zeros_(self.model[0].weight)

    def all_projections(self) -> list[Projection]:
        module = self.model[0]
        return [Projection("0", module, "feed-forward.input", module.in_features, module.out_features)]

    def blocks(self) -> list:
        return []

    def attention_layers(self) -> list:
        return []

    @property
    def width(self) -> int:
        return self.model[0].in_features

    @property
    def positions(self) -> None:
        return None

    def example_input(self, generator: Any = None) -> dict:
        return {"input": torch.ones(1, self.width)}


def loss_after_one_step(rank: int, alpha: Any) -> float:
    """How far Adam's first step on a random regression lowers the loss, averaged over ten draws."""
    falls = []
    for seed in range(10):
        torch.manual_seed(seed)
        backbone, inputs, targets = OneMatrix(256), torch.randn(512, 256), torch.randn(512, 256)
        attachment = Lora(rank=rank, alpha=alpha, targets=("linear",)).attach(backbone)
        optimizer = torch.optim.Adam(attachment.parameters().values(), lr=1e-4)

        def regression(backbone=backbone, inputs=inputs, targets=targets) -> torch.Tensor:
            return (backbone.model(inputs) - targets).square().sum() / 2

        before = regression()
        before.backward()
        optimizer.step()
        falls.append((before - regression()).item())
    return sum(falls) / len(falls)


def test_the_first_step_has_the_same_effect_at_every_rank_if_alpha_is_fixed():
    """Adam moves every entry of B by the learning rate, so that r columns change the output r times as much."""
    fixed = [loss_after_one_step(rank, Lora().alpha) for rank in (1, 4, 16, 64)]
    by_rank = [loss_after_one_step(rank, "rank") for rank in (1, 4, 16, 64)]
    assert max(fixed) < 1.15 * min(fixed)
    assert [fall / by_rank[0] for fall in by_rank] == pytest.approx([1, 4, 16, 64], rel=0.15)


def test_rslora_scales_a_fixed_alpha_by_the_root_of_the_rank():
    scales = {rank: Lora(rank=rank, use_rslora=True).scaling(rank) for rank in (1, 4, 16, 64)}
    assert scales == {1: 16.0, 4: 8.0, 16: 4.0, 64: 2.0}
    assert {Lora(rank=rank, alpha="rank").scaling(rank) for rank in (1, 4, 16, 64)} == {1.0}


@pytest.mark.parametrize("alpha", ["ranks", 0.0, float("nan")])
def test_an_alpha_that_is_neither_positive_nor_the_word_is_refused(gpt2, alpha):
    with pytest.raises(AdapterError, match=r"--adapter\.alpha must be above 0 and at most 1e\+18 or 'rank', not"):
        attach(Lora(alpha=alpha), gpt2)
