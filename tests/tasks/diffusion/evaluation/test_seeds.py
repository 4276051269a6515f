"""Several evaluation seeds: the pictures of each, and figures that are means over them."""

from __future__ import annotations

from dataclasses import astuple, replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from experiments.session import base_evaluation
from tasks.diffusion.dreambooth import DreamBooth
from tasks.diffusion.evaluation.metrics.image_metric import Measurement
from tasks.diffusion.evaluation.metrics.kid import kernel_distance
from tasks.diffusion.evaluation.prompts import Prompt
from tasks.diffusion.evaluation.seeds import average
from tasks.diffusion.pokemon import Pokemon
from tasks.fixed_part import fixed_part
from tests.tasks.diffusion.evaluation.jackknife import jackknife
from tests.tasks.diffusion.tiny_base import write_base

CPU, SEEDS = torch.device("cpu"), 3


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(write_base(tmp_path_factory.mktemp("sd") / "base"))


@pytest.fixture(params=["sd-pokemon", "sd-dreambooth"])
def task(request, base) -> Pokemon | DreamBooth:
    few = {"base": base, "drift_items": 2, "train_items": 2, "resolution": 16, "test_items": 12}
    if request.param == "sd-pokemon":
        return Pokemon(**few, validation_items=2)
    return DreamBooth(**few, held_out=12, prior_preservation=False)


def measured(task):
    """The figures of a tuned model, as a run records them, and the items."""
    prepared = task.prepare(CPU)
    base = base_evaluation(prepared)
    with torch.no_grad():
        for parameter in prepared.backbone.model.parameters():
            parameter.mul_(1.02)
    return prepared, prepared.finish(prepared.evaluate(), base)


def test_a_part_samples_fixed_prompts_and_keeps_the_references(task):
    """Between two steps: ten of twelve prompts here, the least of which a distance is measured."""
    prepared = task.prepare(CPU)
    whole, part = prepared.evaluation, prepared.evaluation.part(0.1)
    assert [p.text for p in part.inputs.prompts] == [whole.inputs.prompts[i].text for i in fixed_part(12, 0.1, 10)]
    assert part.inputs.real is whole.inputs.real
    figures = prepared.finish(prepared.evaluate_part(0.1), prepared.evaluate_part(0.1)).figures
    assert {figures[name].n for name in ("clip_score", task.primary_metric)} == {10}
    assert figures["drift"].value == pytest.approx(0, abs=1e-6)
    assert "validation_loss" not in figures
    assert prepared.evaluate_part(0.1).figures["clip_score"].value == figures["clip_score"].value


def test_figures_are_means_over_seeds_and_the_first_seed_is_that_of_a_single_evaluation(task):
    _, one = measured(task)
    _, several = measured(replace(task, evaluation_seeds=SEEDS))
    assert one.figures.keys() == several.figures.keys() >= {"drift", "clip_score", "validation_loss"}
    for name, figure in several.figures.items():
        alone = one.figures[name]
        assert alone.evaluation is None
        assert figure.evaluation is not None
        assert len(figure.evaluation) == SEEDS
        assert figure.evaluation[0] == alone.value, name
        assert figure.value == pytest.approx(np.mean(figure.evaluation))
        assert (figure.n, figure.unit, figure.extractor) == (alone.n, alone.unit, alone.extractor)
        for reference in ("floor", "reconstruction", "ceiling"):
            assert getattr(figure, reference) == getattr(alone, reference)
        if alone.low is not None and alone.high is not None:
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low <= figure.value <= figure.high
    varying = ("drift", "clip_score", "validation_loss", "kid", "similarity", "leakage")
    for name in several.figures.keys() & set(varying):
        assert len(set(several.figures[name].evaluation or ())) == SEEDS, f"{name} is the same under every seed"
    assert torch.equal(one.artifacts["shown"], several.artifacts["shown"])
    for row, single in zip(several.items, one.items, strict=True):
        assert row.keys() == single.keys()
        assert (row["item"], row["prompt"]) == (single["item"], single["prompt"])
    assert np.mean([row["clip_score"] for row in several.items]) == pytest.approx(several.figures["clip_score"].value)


def test_every_seed_has_noise_of_its_own(task):
    """Pictures of all streams differ: of the prompts, and of the class prompt, whose stream is beside theirs."""
    prepared = task.prepare(CPU)
    inputs = [replace(prepared.evaluation.inputs, seed=seed) for seed in range(SEEDS)]
    streams = [each.pictures for each in inputs]
    assert all(not torch.equal(first, second) for first, second in pairwise(streams))
    assert len({each.sampling.seed + stream for each in inputs for stream in (0, 1)}) == 2 * SEEDS


@pytest.mark.parametrize("task", ["sd-pokemon"], indirect=True)
def test_the_interval_of_a_distance_is_the_jackknife_of_the_mean_distance(task):
    prepared, several = measured(replace(task, evaluation_seeds=SEEDS))
    inputs = [replace(prepared.evaluation.inputs, seed=seed) for seed in range(SEEDS)]
    features = torch.stack([each.features for each in inputs], dim=1)  # (n, seeds, d)

    def mean_distance(first, second):
        return float(np.mean([kernel_distance(first[:, seed], second) for seed in range(SEEDS)]))

    expected = jackknife(mean_distance, features, inputs[0].real.features("reference"))
    figure = several.figures["kid"]
    assert (figure.low, figure.high) == pytest.approx(expected, rel=1e-6)


def test_the_interval_of_a_mean_contains_the_average_over_items_at_its_rate():
    """Items of variance 4 with noise of variance 9 under each seed: coverage of the expected value, 0."""
    from tasks.diffusion.evaluation.metrics.clip_score import ClipScore

    rng, covered, n = np.random.default_rng(0), 0, 40
    for _ in range(1000):
        items = 2 * rng.normal(size=n)
        values = items + 3 * rng.normal(size=(SEEDS, n))
        figure = average([ClipScore().mean(each, "none") for each in values]).figure
        assert figure is not None
        assert figure.low is not None
        assert figure.high is not None
        covered += figure.low <= 0 <= figure.high
    assert 0.93 < covered / 1000 < 0.97


def test_one_seed_is_the_measurement_itself():
    measurement = Measurement(item_values=[1.0])
    assert average([measurement]) is measurement


def test_the_key_of_the_bases_evaluation_contains_the_number_of_seeds(task):
    keys = [replace(task, evaluation_seeds=seeds).prepare(CPU).evaluation_key for seeds in (1, 2)]
    assert keys[0] != keys[1]


@pytest.mark.parametrize("prompts", [None, 4])
def test_the_three_variances_of_simulated_pictures(prompts):
    """Trainings of variance 1, pictures (or whole prompts) of variance 16, noise of variance 9 + 1 under every seed.

    One evaluation of n pictures then has the variances 1, 10 / n and 16 / n (of 4 prompts: 16 / 4).
    """
    from reports.statistics.components import components
    from tasks.diffusion.evaluation.metrics.clip_score import ClipScore

    rng, n, trainings, found = np.random.default_rng(0), 40, 4, []
    texts = None if prompts is None else [Prompt(str(i % prompts), "") for i in range(n)]
    for _ in range(1000):
        pictures = 4 * rng.normal(size=n if prompts is None else prompts)[np.arange(n) % (prompts or n)]
        noise = 3 * rng.normal(size=(SEEDS, n))  # the same for all trainings
        figures = []
        for training in rng.normal(size=trainings):
            values = training + pictures + noise + rng.normal(size=(SEEDS, n))
            figures.append(average([ClipScore().mean(each, "none", texts) for each in values]).figure)
        error = np.sqrt(np.mean([figure.standard_error**2 for figure in figures]))
        found.append(astuple(components([figure.evaluation for figure in figures], error)))
    expected = (1 + 1 / n / SEEDS, 10 / n, 16 / (prompts or n))
    assert np.mean(found, axis=0) == pytest.approx(expected, rel=0.1)
