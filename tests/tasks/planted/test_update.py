"""The teacher has the update that it says, balanced over its inputs; in one layer LoRA's best is then r / k."""

import copy

import numpy as np
import pytest
import torch

from tasks.errors import TaskError
from tasks.planted.recovered import recovered
from tasks.planted.update import PlantedUpdate, balanced, input_rows, output_rows, weight_rows
from tests.contract.tiny import built

RANK, STRENGTH = 2, 0.4
# the example's two timesteps leave the time embedding fewer directions than the update has
TARGETS = {"gpt2": ("linear",), "llama": ("linear",), "unet": ("linear", "convolution")}


def probe(backbone, count=6):
    """Run the model on examples, and back from random gradients of its outputs."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        output = backbone.model(**backbone.example_input(generator))[0]
        output.backward(torch.randn(output.shape, generator=generator))


def captured(backbone, layers):
    """By layer: its inputs (n, in) and the gradients of its outputs (n, out) in a probe, from hooks of torch's own."""
    inputs, gradients = ({layer.key: [] for layer in layers} for _ in range(2))
    handles = []
    for layer in layers:

        def forward_hook(module, args, output, layer=layer):
            inputs[layer.key].append(input_rows(layer, args[0]).detach())

        def backward_hook(module, into, out, layer=layer):
            gradients[layer.key].append(output_rows(layer, out[0]).detach())

        handles.append(layer.module.register_forward_hook(forward_hook))
        handles.append(layer.module.register_full_backward_hook(backward_hook))
    probe(backbone)
    for handle in handles:
        handle.remove()
    return tuple({key: torch.cat(each).double().numpy() for key, each in part.items()} for part in (inputs, gradients))


@pytest.fixture(params=TARGETS)
def planted(request):
    """Kind of model, its backbone, the update, the teacher's backbone."""
    backbone = copy.deepcopy(built(request.param))
    targets = TARGETS[request.param]
    update = PlantedUpdate(RANK, STRENGTH, targets, len(backbone.projections(*targets)), 0)
    with_teacher = copy.copy(backbone)
    with_teacher.model = update.teacher(backbone, lambda: probe(backbone)).model
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


def test_along_the_directions_inputs_and_sensitivities_are_equally_strong_and_uncorrelated(planted):
    """U S V^T is the update, C and F the second moments of inputs and of gradients: V^T C V and U^T F U."""
    backbone, update, _ = planted
    inputs, gradients = captured(backbone, update.layers(backbone))
    for layer, change, _ in differences(planted):
        left, _, right = np.linalg.svd(change)
        along = inputs[layer.key] @ right[:RANK].T
        for each in (along, gradients[layer.key] @ left[:, :RANK]):
            moments = each.T @ each
            np.testing.assert_allclose(moments, np.eye(RANK) * moments.trace() / RANK, atol=2e-3 * moments.trace())
        assert np.abs(along.mean(axis=0)).max() < 1e-3 * np.sqrt((along**2).sum() / len(along))


def test_the_best_update_of_rank_r_recovers_r_of_k_parts_of_a_layers_effect(planted):
    """Eckart and Young, in the metric of the inputs and of the sensitivity of the outputs."""
    backbone, update, _ = planted
    inputs, gradients = captured(backbone, update.layers(backbone))
    for layer, change, _ in differences(planted):
        roots = [np.linalg.svd(each, full_matrices=False) for each in (gradients[layer.key], inputs[layer.key])]
        left, right = ((values[:, None] * vectors) for _, values, vectors in roots)
        energy = np.linalg.svd(left @ change @ right.T, compute_uv=False) ** 2
        for r in range(1, RANK + 1):
            assert energy[:r].sum() / energy.sum() == pytest.approx(r / RANK, abs=5e-3)


def test_the_models_weights_get_no_gradient(planted):
    assert all(parameter.grad is None for parameter in planted[0].model.parameters())


def test_random_directions_would_not_do():
    """Inputs with a large mean: one direction carries most of the effect, unless the directions are balanced."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 40, generator=generator) + 5 * torch.randn(40, generator=generator)
    candidates = torch.linalg.qr(torch.randn(40, 16, generator=generator)).Q
    along = (inputs @ candidates).double()
    plain, chosen = along[:, :4], along @ balanced(along.T @ along, 4, along.sum(dim=0)).double()
    shares = [(s := torch.linalg.svdvals(x) ** 2)[0] / s.sum() for x in (plain, chosen)]
    assert shares[0] > 0.8
    assert shares[1] == pytest.approx(0.25, abs=1e-3)
    assert float(chosen.mean(dim=0).abs().max()) < 1e-3


def test_the_seed_draws_it():
    backbone = built("gpt2")

    def weights(seed):
        model = PlantedUpdate(2, 0.3, ("query",), 1, seed).teacher(backbone, lambda: probe(backbone)).model
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize(
    ("update", "says"),
    [
        (PlantedUpdate(16, 0.3, ("query",), 1, 0), "--task.rank 16 is too large for .* which takes at most 15"),
        (PlantedUpdate(2, 0.3, ("queri",), 1, 0), "--task.targets: .*did you mean query"),
        (PlantedUpdate(2, 0.3, ("query",), 9, 0), "--task.layers 9: only 2 layers have a role of --task.targets query"),
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
