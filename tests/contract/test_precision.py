"""Frozen weights in bf16 under autocast: what every method has to keep."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from adapters.base import attach
from tests.contract.conftest import EXAMPLES, label
from tests.contract.test_contract import attach_perturbed, attach_seeded, gradients
from tests.contract.tiny import loss, output

STEPS, TOLERANCE = 8, 0.02  # bf16 rounds by 0.4 %
frozen_base = [adapter for adapter in EXAMPLES if not adapter.trains_base]


@pytest.fixture
def stored(adapter, backbone, twin):
    """The backbone as a run stores it for the method, computing in bf16; its twin stays in fp32."""
    if not adapter.trains_base:
        backbone.model.to(torch.bfloat16)
    backbone.compute = "bf16"
    return backbone


def called(backbone):
    """The output as a task calls the model: autocast keeps its copies of weights for one call."""
    with backbone.computing():
        return output(backbone)


def losses(backbone, attachment) -> list[float]:
    """Of some steps of AdamW, as in the loop."""
    optimizer = torch.optim.AdamW(attachment.parameters().values(), lr=3e-3)
    values = []
    for _ in range(STEPS):
        with backbone.computing():
            value = loss(backbone)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        values.append(value.item())
    return values


def test_what_trains_is_fp32_and_what_is_frozen_keeps_its_dtype(adapter, stored):
    frozen_dtype = next(stored.model.parameters()).dtype
    attachment = attach_seeded(adapter, stored)
    owned = {id(parameter) for parameter in attachment.parameters().values()}
    assert {parameter.dtype for parameter in attachment.parameters().values()} == {torch.float32}
    assert {p.dtype for p in stored.model.parameters() if id(p) not in owned} <= {frozen_dtype}


def test_losses_are_those_of_fp32(adapter, stored, twin):
    """Within the tolerance of the dtype; and the training learns in both."""
    in_fp32 = losses(twin, attach_seeded(adapter, twin))
    in_bf16 = losses(stored, attach_seeded(adapter, stored))
    assert in_fp32[-1] < in_fp32[0]
    assert in_bf16 == pytest.approx(in_fp32, abs=TOLERANCE * in_fp32[0])
    assert in_bf16[0] - in_bf16[-1] == pytest.approx(in_fp32[0] - in_fp32[-1], rel=0.15, abs=TOLERANCE * in_fp32[0])


def test_gradients_are_those_of_fp32(adapter, stored, twin):
    attachment = attach_seeded(adapter, stored)
    with stored.computing():
        half = gradients(stored, attachment)
    whole = gradients(twin, attach_seeded(adapter, twin))
    assert {gradient.dtype for gradient in half.values()} == {torch.float32}
    flat = [torch.cat([gradient.flatten() for gradient in each.values()]) for each in (half, whole)]
    assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.99


def test_disabled_and_detached_is_the_base(adapter, stored):
    dtypes = {name: parameter.dtype for name, parameter in stored.model.named_parameters()}
    before = called(stored)
    attachment = attach_perturbed(adapter, stored)
    assert not torch.equal(called(stored), before)
    with attachment.disabled():
        assert torch.equal(called(stored), before)
    attachment.detach()
    assert torch.equal(called(stored), before)
    assert {name: parameter.dtype for name, parameter in stored.model.named_parameters()} == dtypes


def test_a_saved_adapter_starts_another_run(adapter, stored, tmp_path):
    """Through the file that a run writes (`--adapter.init`), onto weights of 16 bits."""
    from safetensors.torch import save_file

    from experiments.config import RunConfig
    from experiments.records.adapter_file import adapter_metadata
    from tasks.language.style import Style

    other = copy.deepcopy(stored)
    source = attach_perturbed(adapter, stored)
    save_file(source.state(), tmp_path / "adapter.safetensors", metadata=adapter_metadata(RunConfig(adapter, Style())))
    attach(replace(adapter, init=str(tmp_path / "adapter.safetensors")), other, 0)
    assert torch.equal(called(other), called(stored))


@pytest.mark.parametrize("mergeable", [a for a in frozen_base if a.mergeable], ids=label)
def test_a_merge_into_weights_of_16_bits_rounds_once(mergeable, backbone):
    """The sum in fp32, rounded to the weight's format."""
    backbone.model.to(torch.bfloat16)
    attachment: Any = attach_perturbed(mergeable, backbone)
    before = {weight: weight.detach().float() for weight, _ in attachment.changes()}
    sums = dict(before)
    for weight, change in attachment.changes():
        sums[weight] = sums[weight] + change
    attachment.merge()
    for weight, total in sums.items():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, total.to(torch.bfloat16))
    attachment.unmerge()
    assert all(torch.equal(weight.float(), value) for weight, value in before.items())


def test_a_state_moves_between_precisions(adapter, stored, twin):
    source = attach_perturbed(adapter, stored)
    target = attach_seeded(adapter, twin, seed=7)
    target.load(load(save(source.state())))
    assert {parameter.dtype for parameter in target.parameters().values()} == {torch.float32}
    half, whole = called(stored).float(), output(twin)
    assert (half - whole).norm() < 0.1 * whole.norm()
