"""The planted task of a Stable Diffusion, on a tiny random one."""

import json
from dataclasses import replace

import pytest
import torch

from tasks.diffusion.planted import PlantedDenoiser
from tests.tasks.diffusion.tiny_base import write_base
from tests.tasks.full_training import train_fully
from tests.tasks.planted.part import part_of_moved

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = write_base(tmp_path_factory.mktemp("base") / "tiny")
    return PlantedDenoiser(base=str(folder), rank=2, strength=20.0, train_items=12, test_items=6)


@pytest.fixture
def prepared(task):
    return task.prepare(CPU)


def test_the_untuned_base_recovers_nothing_and_the_teacher_everything(prepared):
    base = prepared.evaluate()
    assert base.figures["recovered"].value == 0
    assert base.figures["teacher_distance"].value == pytest.approx(prepared.facts["effect"])
    assert prepared.facts["effect"] > 1e-4
    prepared.backbone.model.load_state_dict(prepared.teacher.model.state_dict())
    taught = prepared.finish(prepared.evaluate(), base)
    assert taught.figures["recovered"].value == pytest.approx(1, abs=1e-4)
    assert taught.figures["recovered"].base == 0


def test_the_teachers_layer_is_the_last_that_is_used(task, prepared):
    (key,) = prepared.facts["planted"]["layers"]
    used = []
    layers = prepared.backbone.projections("feed-forward.in")
    for layer in layers:
        layer.module.register_forward_hook(lambda *_, key=layer.key: used.append(key))
    with torch.no_grad():
        prepared.loss(next(prepared.batches(0, 0, 2)))
    assert used[-1] == key
    assert {layer.key for layer in layers} == set(used)
    assert [layer.key for layer in task.load_base(CPU).backbone.projections("auto")] == [key]


def test_the_loss_is_the_squared_error_against_the_teacher(prepared):
    batch = next(prepared.batches(0, 0, 4))
    with torch.no_grad():
        wanted, predicted = (
            model(batch.noisy, batch.timestep, **batch.conditions).sample
            for model in (prepared.teacher.model, prepared.backbone.model)
        )
        expected = torch.nn.functional.mse_loss(predicted, wanted)
        assert float(prepared.loss(batch)) == pytest.approx(float(expected), rel=1e-4)


def test_batches_resume_exactly(prepared):
    batches = prepared.batches(3, 0, 4)
    third = [next(batches) for _ in range(3)][2]
    assert torch.equal(next(prepared.batches(3, 2, 4)).noisy, third.noisy)
    assert not torch.equal(next(prepared.batches(4, 2, 4)).noisy, third.noisy)


def test_training_recovers_some_of_it_on_held_out_pictures(prepared):
    train_fully(prepared, 25, 6, 2e-3)
    figure = prepared.evaluate().figures["recovered"]
    assert 0.1 < figure.value < 1
    assert figure.low < figure.value < figure.high


def test_a_part_of_the_test_has_the_distances_of_the_whole(prepared):
    part, chosen = part_of_moved(prepared, 6, 0.5, rel=1e-4)
    assert part.figures["recovered"].n == 3
    assert [item["caption"] for item in part.items] == [item["caption"] for item in chosen]
    assert part.figures.keys() == {"recovered", "teacher_distance"}


def test_the_bases_evaluation_is_cached_by_the_teacher_and_the_pictures(task):
    changes = ({}, {"rank": 3}, {"teacher_seed": 1}, {"test_items": 5})
    assert len({json.dumps(replace(task, **change).prepare(CPU).evaluation_key) for change in changes}) == 4


def test_a_plan_holds_the_teacher():
    meta = PlantedDenoiser().meta_model()
    assert set(meta.frozen) == {"teacher"}
    assert meta.loss(meta.batch(2, torch.device("meta"))).shape == ()
    calls = meta.evaluation(torch.device("meta"))
    assert {when for call in calls for when in call.when} == {"set-up", "training", "evaluation"}
    assert [call.run().shape for call in calls] == [(), ()]


def test_the_effect_is_measured_in_the_runs_precision(prepared):
    prepared.backbone.compute = "bf16"
    assert prepared.evaluate().figures["recovered"].value == 0
    assert prepared.effects.mean() != prepared.facts["effect"]
