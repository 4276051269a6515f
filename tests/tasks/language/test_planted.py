"""The planted task of a language model: what the student sees, learns and recovers."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from adapters import Lora
from adapters.base import attach
from tasks.errors import TaskError
from tasks.language.model.likelihood import padded
from tasks.language.planted import Planted
from tasks.planted.update import weight_rows
from tests.tasks.full_training import train_fully
from tests.tasks.planted.part import part_of_moved

CPU = torch.device("cpu")


@pytest.fixture
def task(tiny_base, text_file):
    return Planted(base=tiny_base, data=text_file, test_items=4, drift_items=2, max_length=32, rank=2, strength=20.0)


@pytest.fixture
def prepared(task):
    return task.prepare(CPU)


def test_the_untuned_base_recovers_nothing_and_the_teacher_everything(prepared):
    base = prepared.evaluate()
    assert base.figures["recovered"].value == 0
    assert base.figures["teacher_distance"].value == pytest.approx(prepared.facts["effect"])
    prepared.base.model.load_state_dict(prepared.teacher.model.state_dict())
    taught = prepared.finish(prepared.evaluate(), base)
    assert taught.figures["recovered"].value == pytest.approx(1, abs=1e-4)
    assert taught.figures["recovered"].base == 0
    assert taught.figures["validation_loss"].value == pytest.approx(0, abs=1e-5)
    assert prepared.facts["effect"] > 1e-3


def test_auto_means_the_teachers_layer_also_to_a_run_that_is_loaded(task, prepared):
    for backbone in (prepared.backbone, task.load_base(CPU).backbone, task.meta_model().backbone):
        assert [layer.key for layer in backbone.projections("auto")] == ["transformer.h.1.mlp.c_fc"]
    assert prepared.facts["planted"]["layers"] == ["transformer.h.1.mlp.c_fc"]


def test_a_student_like_the_teacher_has_no_loss_in_training(prepared):
    """The tiny base has dropout, as GPT-2 has; with it the loss would have a floor."""
    prepared.base.model.load_state_dict(prepared.teacher.model.state_dict())
    prepared.base.model.train()
    with torch.no_grad():
        assert float(prepared.loss(next(prepared.batches(0, 0, 4)))) == pytest.approx(0, abs=1e-6)


def test_the_loss_is_the_divergence_from_the_teachers_distribution(prepared):
    """Against torch.distributions, token by token, on rows of unequal length: padding does not count."""
    rows = [prepared.training[0], (prepared.training[1][0], prepared.training[1][1][:5])]
    total, count = 0.0, 0
    with torch.no_grad():
        for prompt, text in rows:
            tokens = torch.tensor([prompt + text])
            wanted, student = (
                Categorical(logits=model(input_ids=tokens).logits[0, len(prompt) - 1 : -1])
                for model in (prepared.teacher.model, prepared.base.model)
            )
            total += float(kl_divergence(wanted, student).sum())
            count += len(text)
        assert float(prepared.loss(padded(rows, CPU))) == pytest.approx(total / count, rel=1e-4)


def test_the_effects_of_the_directions_add_up(tiny_base, text_file):
    """The teacher's own update, cut to one of its k directions in every layer: the k shares are together the whole."""
    settings = {"base": tiny_base, "data": text_file, "drift_items": 2, "max_length": 32}
    prepared = Planted(**settings, test_items=20, rank=4, strength=0.5).prepare(CPU)
    teacher = copy.copy(prepared.backbone)
    teacher.model = prepared.teacher.model
    layers = [prepared.update.layers(backbone) for backbone in (prepared.backbone, teacher)]
    weights = [[weight_rows(layer).detach() for layer in each] for each in layers]
    bases = [weight.clone() for weight in weights[0]]
    shares = []
    for direction in range(4):
        for weight, base, taught in zip(weights[0], bases, weights[1], strict=True):
            u, values, v = torch.linalg.svd((taught - base).double(), full_matrices=False)
            weight.copy_(base + values[direction] * torch.outer(u[:, direction], v[direction]))
        shares.append(prepared.evaluate().figures["recovered"].value)
    assert sum(shares) == pytest.approx(1, abs=0.05)
    assert shares == pytest.approx([0.25] * 4, abs=0.06)


def test_lora_of_rank_r_recovers_r_of_k_parts_and_all_from_k_on(tiny_base, text_file):
    settings = {"base": tiny_base, "data": text_file, "drift_items": 2, "max_length": 32}
    shares = []
    for rank in (1, 2, 4):
        prepared = Planted(**settings, test_items=20, rank=2, strength=0.5).prepare(CPU)
        torch.manual_seed(0)
        weights = [*attach(Lora(rank=rank), prepared.backbone).parameters().values()]
        optimizer = torch.optim.AdamW(weights, lr=1e-2, weight_decay=0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
        batches = prepared.batches(0, 0, 16)
        for _ in range(150):
            prepared.loss(next(batches)).backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        shares.append(prepared.evaluate().figures["recovered"].value)
    assert shares[0] == pytest.approx(1 / 2, abs=0.05)
    assert min(shares[1:]) > 0.98


def test_training_recovers_some_of_it_on_held_out_text(prepared):
    train_fully(prepared, 40, 8, 2e-3)
    figure = prepared.evaluate().figures["recovered"]
    assert 0.1 < figure.value < 1
    assert figure.low < figure.value < figure.high


def test_a_part_of_the_test_has_the_distances_of_the_whole(prepared):
    part, chosen = part_of_moved(prepared, 4, 0.75, rel=1e-5)
    assert part.figures["recovered"].n == 3
    distance, tokens = (sum(item[name] for item in chosen) for name in ("distance", "tokens"))
    assert part.figures["teacher_distance"].value == pytest.approx(distance / tokens, rel=1e-5)
    assert part.figures["teacher_distance"].n == 3
    assert "validation_loss" not in part.figures


def test_the_bases_evaluation_is_cached_by_the_teacher(task, prepared):
    keys = {json.dumps(replace(task, **c).prepare(CPU).evaluation_key) for c in ({"rank": 3}, {"teacher_seed": 1}, {})}
    assert len(keys) == 3
    assert json.dumps(prepared.evaluation_key) in keys


def test_a_plan_holds_the_teacher(task):
    """And the base's weights where the teacher has others, to measure its effect."""
    meta = Planted(rank=2).meta_model()
    assert set(meta.frozen) == {"teacher"}
    weights = {id(layer.module): layer.module.weight for layer in Planted().update.layers(meta.backbone)}
    changed = sum(weight.numel() for weight in weights.values())  # a fused module's whole
    counts = [sum(p.numel() for p in model.parameters()) for model in (meta.frozen["teacher"], meta.backbone.model)]
    assert counts[0] == counts[1] + changed
    assert meta.loss(meta.batch(2, torch.device("meta"))).shape == ()
    assert {when for call in meta.evaluation(torch.device("meta")) for when in call.when} == {"training", "evaluation"}


def test_chunks_of_logits_give_the_same_divergence_and_gradients(task):
    gradients, values = [], []
    for at_once in (2**25, 500):
        prepared = replace(task, logits_at_once=at_once).prepare(CPU)
        model = prepared.backbone.model.requires_grad_(True)
        prepared.loss(next(prepared.batches(0, 0, 3))).backward()
        gradients.append([p.grad for p in model.parameters()])
        values.append(prepared.evaluate().figures["teacher_distance"].value)
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    for whole, chunked in zip(*gradients, strict=True):
        torch.testing.assert_close(chunked, whole, atol=1e-6, rtol=1e-4)


def test_the_effect_is_measured_in_the_runs_precision(prepared):
    """With the adapter already attached: the untuned base is the teacher's."""
    prepared.backbone.compute = "bf16"
    assert prepared.evaluate().figures["recovered"].value == 0
    exact = prepared.part_distances(prepared.teacher.untuned)[1].mean
    with torch.no_grad():
        for parameter in prepared.backbone.model.parameters():
            parameter.mul_(1.01)
    assert prepared.effects.mean == exact != prepared.facts["effect"]


def test_a_quantised_base_has_no_teacher(task):
    with pytest.raises(TaskError, match=r"--task\.base-precision nf4: a teacher needs weights that are not quantised"):
        replace(task, base_precision="nf4").prepare(CPU)
