"""The teacher has the update that it says, balanced over its inputs; in one layer LoRA's best is then r / k."""

import copy

import numpy as np
import pytest
import torch

from tasks.errors import TaskError
from tasks.planted.recovered import recovered
from tasks.planted.update import PlantedUpdate, balanced, input_rows, weight_rows
from tests.contract.tiny import built

RANK, STRENGTH = 3, 0.4
# the example's two timesteps leave the time embedding fewer directions than the update has
TARGETS = {"gpt2": ("linear",), "llama": ("linear",), "unet": ("linear", "convolution")}


def forward(backbone, count=6):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        backbone.model(**backbone.example_input(generator))


@pytest.fixture(params=TARGETS)
def planted(request):
    """Kind of model, its backbone, the update, the teacher's backbone."""
    backbone = copy.deepcopy(built(request.param))
    update = PlantedUpdate(RANK, STRENGTH, TARGETS[request.param], 0)
    with_teacher = copy.copy(backbone)
    with_teacher.model = update.teacher(backbone, lambda: forward(backbone)).model
    return backbone, update, with_teacher


def differences(planted):
    """By layer: its update as a matrix (out, in), and the norm of its weight."""
    backbone, update, teacher = planted
    for before, after in zip(update.layers(backbone), update.layers(teacher), strict=True):
        base, changed = (weight_rows(layer).detach().flatten(1).double().numpy() for layer in (before, after))
        yield before, changed - base, np.linalg.norm(base)


def test_every_layer_has_k_equal_singular_values_of_the_strength(planted):
    for _, change, norm in differences(planted):
        values = np.linalg.svd(change, compute_uv=False)
        expected = STRENGTH * norm / np.sqrt(RANK)
        np.testing.assert_allclose(values[:RANK], expected, rtol=1e-4)
        assert values[RANK] < 1e-4 * expected


def test_nothing_else_changes(planted):
    backbone, update, teacher = planted
    changed = {id(layer.module.weight) for layer in update.layers(teacher)}
    before = dict(backbone.model.named_parameters())
    for name, parameter in teacher.model.named_parameters():
        assert (id(parameter) in changed) != torch.equal(parameter, before[name]), name
        assert not parameter.requires_grad


def test_the_directions_get_equally_strong_uncorrelated_centred_inputs(planted):
    """The inputs are captured by a forward pass of the base; C is their second moment, U S V^T the update: V^T C V."""
    backbone, update, _ = planted
    inputs = {layer.key: [] for layer in update.layers(backbone)}
    hooks = [
        layer.module.register_forward_pre_hook(
            lambda module, args, layer=layer: inputs[layer.key].append(input_rows(layer, args[0]).detach())
        )
        for layer in update.layers(backbone)
    ]
    forward(backbone)
    for hook in hooks:
        hook.remove()
    for layer, change, _ in differences(planted):
        along = torch.cat(inputs[layer.key]).double().numpy() @ np.linalg.svd(change)[2][:RANK].T
        moments = along.T @ along
        np.testing.assert_allclose(moments, np.eye(RANK) * moments.trace() / RANK, atol=1e-3 * moments.trace())
        assert np.abs(along.mean(axis=0)).max() < 1e-3 * np.sqrt(moments.trace() / len(along))


def test_the_best_update_of_rank_r_recovers_r_of_k_parts_of_the_effect(planted):
    """Eckart and Young: in the metric of the inputs, the best rank r leaves the smallest squared singular values."""
    backbone = planted[0]
    layer, change, _ = next(iter(differences(planted)))
    captured = []
    handle = layer.module.register_forward_pre_hook(lambda module, args: captured.append(input_rows(layer, args[0])))
    forward(backbone)
    handle.remove()
    effect = torch.cat(captured).detach().double().numpy() @ change.T
    energy = np.linalg.svd(effect, compute_uv=False) ** 2
    for r in range(1, RANK + 1):
        assert energy[:r].sum() / energy.sum() == pytest.approx(r / RANK, abs=1e-3)


def test_random_directions_would_not_do():
    """Inputs with a large mean: one direction carries most of the effect, unless the directions are balanced."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 40, generator=generator) + 5 * torch.randn(40, generator=generator)
    candidates = torch.linalg.qr(torch.randn(40, 16, generator=generator)).Q
    along = inputs @ candidates
    with_one = torch.cat([along, torch.ones(500, 1)], dim=1).double()
    plain, chosen = along[:, :4], along @ balanced(with_one.T @ with_one, 4)
    shares = [(s := torch.linalg.svdvals(x) ** 2)[0] / s.sum() for x in (plain, chosen)]
    assert shares[0] > 0.8
    assert shares[1] == pytest.approx(0.25, abs=1e-3)
    assert float(chosen.mean(dim=0).abs().max()) < 1e-3


def test_the_seed_draws_it():
    backbone = built("gpt2")

    def weights(seed):
        model = PlantedUpdate(2, 0.3, ("query",), seed).teacher(backbone, lambda: forward(backbone)).model
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize(
    ("update", "says"),
    [
        (PlantedUpdate(16, 0.3, ("query",), 0), "--task.rank 16 is too large for .* which takes at most 15"),
        (PlantedUpdate(2, 0.3, ("queri",), 0), "--task.targets: .*did you mean query"),
    ],
)
def test_mistakes_are_one_sentence(update, says):
    with pytest.raises(TaskError, match=says):
        update.teacher(built("gpt2"), None)


def test_the_share_is_of_the_sums_with_an_interval_over_items():
    distances, effects = np.array([1.0, 2.0, 0.0, 1.0]), np.array([4.0, 4.0, 1.0, 1.0])
    figure = recovered(distances, effects, "x")
    assert figure.value == pytest.approx(1 - 4 / 10)
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < figure.value < figure.high
    assert recovered(effects, effects, "x").value == 0
    assert recovered(2 * effects, effects, "x").value == -1


def test_the_interval_covers():
    """Of a ratio of means whose true value is known; 95 % of intervals of 60 items hold it, give or take."""
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        effects = generator.gamma(2.0, size=60)
        distances = effects * 0.3 * generator.gamma(4.0, 0.25, size=60)
        figure = recovered(distances, effects, "x")
        assert figure.low is not None
        assert figure.high is not None
        inside += figure.low <= 0.7 <= figure.high
    assert 0.88 <= inside / 200 <= 0.99
