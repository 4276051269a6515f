"""Fastfood against the product of its five matrices, its norms, and subspaces of whole models."""

import copy
from typing import Any

import numpy
import pytest
import torch
from scipy.linalg import hadamard

from adapters import random_projections
from adapters.errors import AdapterError
from adapters.random_projections import DenseProjection, Fastfood, walsh_hadamard
from adapters.subspace import Subspace
from tests.contract.tiny import loss, output


@pytest.mark.parametrize("size", [1, 2, 8, 16, 32, 512, 4096])
def test_walsh_hadamard_equals_scipys_matrix(size):
    rows = torch.randn(3, size, dtype=torch.float64)
    expected = rows @ torch.from_numpy(hadamard(size).astype(numpy.float64))
    torch.testing.assert_close(walsh_hadamard(rows), expected)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of at least 8 rows, 16 rows at once."""
    monkeypatch.setattr(random_projections, "MIN_BLOCK", 8)
    monkeypatch.setattr(random_projections, "ROWS_AT_ONCE", 16)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 5), (3, 50), (64, 64), (30, 33), (100, 7), (5, 41), (17, 1)])
def test_fastfood_equals_the_dense_product(small_blocks, inputs, outputs):
    """Stacked blocks H G Pi H B, every matrix written out."""
    fastfood = Fastfood(inputs, outputs, seed=3, device="cpu")
    size = fastfood.size
    transform = torch.from_numpy(hadamard(size).astype(numpy.float32))
    blocks = []
    for signs, order, normals in zip(fastfood.signs, fastfood.orders, fastfood.normals, strict=True):
        permutation = torch.eye(size)[order.long() % size]
        padded = torch.eye(size)[:, :inputs] @ torch.diag(signs.float())
        blocks.append(transform @ torch.diag(normals) @ permutation @ transform @ padded)
    dense = torch.cat(blocks)[:outputs]
    vector = torch.randn(inputs, requires_grad=True)
    torch.testing.assert_close(fastfood(vector), dense @ vector, atol=1e-5, rtol=1e-4)
    weights = torch.randn(outputs)
    (gradient,) = torch.autograd.grad(fastfood(vector) @ weights, vector)
    torch.testing.assert_close(gradient, dense.T @ weights, atol=1e-5, rtol=1e-4)


def test_diagonals_have_the_papers_scale(small_blocks):
    """c = sqrt(sum(G^2) D) in each block, so that each column of P has norm 1."""
    fastfood = Fastfood(6, 100, seed=0, device="cpu")
    assert (fastfood.size, len(fastfood.signs)) == (8, 13)
    torch.testing.assert_close(fastfood.normals.square().sum(1), torch.full((13,), 1 / 100))
    assert set(fastfood.signs.unique().tolist()) == {-1, 1}
    assert all(sorted((order % 8).tolist()) == list(range(8)) for order in fastfood.orders)
    diagonals = (fastfood.signs, fastfood.normals, fastfood.orders)
    assert all(not torch.equal(each[0], each[1]) for each in diagonals), "each block has its own"


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1000), (50, 1000), (1000, 1000), (5000, 1000)])
@pytest.mark.parametrize("kind", [Fastfood, DenseProjection])
def test_projections_preserve_the_norm(kind, inputs, outputs):
    vector = torch.randn(inputs)
    ratios = [float(kind(inputs, outputs, seed, "cpu")(vector).norm() / vector.norm()) for seed in range(20)]
    assert numpy.mean(ratios) == pytest.approx(1, abs=0.05)


def test_columns_of_fastfood_are_nearly_orthogonal():
    columns = torch.stack([Fastfood(8, 4000, 1, "cpu")(unit) for unit in torch.eye(8)], dim=1)
    torch.testing.assert_close(columns.T @ columns, torch.eye(8), atol=0.1, rtol=0)


def attach_perturbed(backbone, **settings) -> Any:
    torch.manual_seed(0)
    attachment = Subspace(**settings).attach(backbone)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return attachment


@pytest.mark.parametrize("kind", ["gpt2", "llama", "unet"])
def test_every_tensor_of_the_model_is_projected(request, kind):
    """A tensor's learned scale has a gradient only if the forward used the tensor's projected weights."""
    backbone = request.getfixturevalue(kind)
    attachment = attach_perturbed(backbone, dimension=500, scales=True)
    loss(backbone).backward()
    gradient = attachment.parameters()["subspace.scales"].grad
    assert len(gradient) == len(list(backbone.model.parameters())) - 2
    assert gradient.ne(0).all()


def test_gradient_is_the_transposed_projection_of_the_weights(gpt2):
    """dL/dtheta_d = sum over tensors of P_i^T dL/dW_i, with the weights' gradients of the merged model."""
    attachment = attach_perturbed(gpt2, dimension=40)
    loss(gpt2).backward()
    ours = attachment.parameters()["subspace.theta"].grad
    attachment.merge()
    for weight in attachment.tensors.values():
        weight.requires_grad_(True)
    loss(gpt2).backward()
    projection = attachment.coordinates.projections[torch.device("cpu")]
    weights = torch.cat([weight.grad.flatten() for weight in attachment.tensors.values()])
    expected = torch.stack([projection(unit) for unit in torch.eye(40)]) @ weights
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("projection", ["fastfood", "dense"])
def test_weights_change_by_the_norm_of_theta_in_total_and_evenly(unet, projection):
    """The change of all weights has the norm of theta_d, and all weights change by the same amount on average."""
    attachment = attach_perturbed(unet, dimension=3, projection=projection)
    theta = attachment.parameters()["subspace.theta"].detach()
    changes = torch.cat([change.detach().flatten() for _, change in attachment.changes()])
    assert float(changes.norm() / theta.norm()) == pytest.approx(1, abs=0.1)
    small = torch.cat([change.detach().flatten() for weight, change in attachment.changes() if weight.ndim == 1])
    assert float(small.std() / changes.std()) == pytest.approx(1, abs=0.2)


def test_tied_weights_change_together(gpt2):
    attachment = attach_perturbed(gpt2, dimension=40)
    assert "transformer.wte.weight" in attachment.tensors
    assert "lm_head.weight" not in attachment.tensors
    tuned = output(gpt2)
    attachment.merge()
    torch.testing.assert_close(output(gpt2), tuned, atol=1e-5, rtol=1e-5)
    assert gpt2.model.lm_head.weight is gpt2.model.transformer.wte.weight


def test_only_theta_and_the_seed_are_saved(gpt2):
    state = attach_perturbed(gpt2, dimension=40).state()
    assert {name: tensor.shape for name, tensor in state.items()} == {"subspace.theta": (40,), "projection_seed": ()}


def test_changes_are_computed_once_until_theta_changes(gpt2):
    attachment = attach_perturbed(gpt2, dimension=40)
    coordinates, theta = attachment.coordinates, attachment.parameters()["subspace.theta"]
    with torch.no_grad():
        before = output(gpt2)
        changes = coordinates.changes()
        output(gpt2)
        assert coordinates.changes() is changes
        theta.mul_(2.0)
        assert not torch.equal(output(gpt2), before)
        assert coordinates.changes() is not changes


def test_gradients_of_two_forwards_accumulate(gpt2):
    theta = attach_perturbed(gpt2, dimension=40).parameters()["subspace.theta"]
    loss(gpt2).backward()
    once = theta.grad.clone()
    loss(gpt2).backward()
    torch.testing.assert_close(theta.grad, 2 * once)


def test_model_can_be_copied_after_a_forward(gpt2):
    attach_perturbed(gpt2, dimension=40)
    tuned = output(gpt2)
    torch.testing.assert_close(output(gpt2, copy.deepcopy(gpt2.model)), tuned)


def test_seed_determines_the_subspace(gpt2):
    changes = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        attachment = Subspace(dimension=10).attach(gpt2)
        attachment.parameters()["subspace.theta"].data.fill_(1.0)
        changes.append(output(gpt2))
        attachment.detach()
    assert not torch.equal(*changes)


def test_million_dimensions(gpt2):
    attachment = attach_perturbed(gpt2, dimension=1_000_000)
    assert output(gpt2).isfinite().all()
    assert attachment.parameters()["subspace.theta"].shape == (1_000_000,)


def test_bf16_autocast_projects_in_float32(gpt2):
    attach_perturbed(gpt2, dimension=40)
    expected = output(gpt2)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(output(gpt2).float(), expected, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("settings", [{"dimension": 0}, {"dimension": 3, "scales": True}])
def test_too_few_dimensions_are_refused(gpt2, settings):
    with pytest.raises(AdapterError, match="at least"):
        Subspace(**settings).attach(gpt2)


def test_large_dense_projection_is_refused(gpt2):
    with pytest.raises(AdapterError, match="fastfood"):
        Subspace(dimension=1_000_000, projection="dense").attach(gpt2)
