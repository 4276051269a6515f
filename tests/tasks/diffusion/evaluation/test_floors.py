"""Floors and ceilings: what real data reach is what a perfect model reaches, and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tasks.base import Figure
from tasks.bundled.bundled_bases import CLASSIFIER, FOLDERS, SCORER, STABLE_DIFFUSION
from tasks.diffusion.data.splits import REDRAWN, TEST_STREAM, character, creatures, draw, redraw
from tasks.diffusion.evaluation.attributes import AttributeClassifier
from tasks.diffusion.evaluation.clip_scorer import ClipScorer
from tasks.diffusion.evaluation.metrics.alignment import Alignment
from tasks.diffusion.evaluation.metrics.clip_score import ClipScore
from tasks.diffusion.evaluation.metrics.fid import FrechetDistance, frechet_distance
from tasks.diffusion.evaluation.metrics.fid_infinity import ExtrapolatedFrechetDistance
from tasks.diffusion.evaluation.metrics.kid import KernelDistance, kernel_distance
from tasks.diffusion.pokemon import Pokemon
from tasks.diffusion.worlds.creatures import Creatures
from tasks.diffusion.worlds.drawing import SIZE
from tests.tasks.diffusion.evaluation.jackknife import jackknife
from tests.tasks.diffusion.tiny_base import write_base, write_pictures

CPU = torch.device("cpu")
COUNT = 100
OTHER = 900  # streams that no task draws


def figure(metric, inputs) -> Figure:
    measured = metric.compute(inputs).figure
    assert measured is not None
    return measured


@pytest.fixture(scope="module")
def prepared():
    return Pokemon(train_items=2, validation_items=1, test_items=10, drift_items=0, num_inference_steps=1).prepare(CPU)


@pytest.mark.parametrize(
    "splits", [creatures(1, 1, 12, SIZE), character(2, 12, SIZE, "a picture of sks mushroom", {"kind": "mushroom"})]
)
def test_the_floor_of_drawn_data_has_the_captions_of_the_test_and_other_pictures(splits):
    assert splits.floor.captions == splits.test.captions
    for floor, test in zip(splits.floor.attributes, splits.test.attributes, strict=True):
        assert floor == {name: test[name] for name in floor}
    assert not {p.tobytes() for p in splits.floor.pixels.numpy()} & {p.tobytes() for p in splits.test.pixels.numpy()}
    assert splits.facts["floor"] == REDRAWN


@pytest.fixture(scope="module")
def embedded() -> tuple[Any, list[Any], Any]:
    """The test's pictures, the same captions redrawn 13 times, and pictures of other captions."""
    scorer, world = ClipScorer(str(SCORER), "bundled", CPU), Creatures()
    test = draw(world, COUNT, TEST_STREAM, True, full_caption=True)
    redrawn = [scorer.embeddings(redraw(world, test, OTHER + i).pixels) for i in range(13)]
    return scorer.embeddings(test.pixels), redrawn, scorer.embeddings(draw(world, COUNT, OTHER, True).pixels)


@pytest.mark.parametrize("distance", [kernel_distance, frechet_distance])
def test_the_floor_covers_what_perfect_models_reach(distance, embedded):
    """A perfect model draws the test's captions once more. Other captions, the earlier floor, are farther away."""
    reference, (floor, *perfect), other_captions = embedded
    low, high = jackknife(distance, floor, reference)
    reached = np.array([distance(pictures, reference) for pictures in perfect])
    assert low < reached.mean() < high
    # if both intervals had 95 %, one would cover the other's value in 83 % of the cases
    assert np.mean((low < reached) & (reached < high)) > 0.6
    assert jackknife(distance, other_captions, reference)[0] > reached.max()


def test_ceilings_are_those_of_the_tests_pictures_through_the_vae(prepared):
    from diffusers import AutoencoderKL

    vae: Any = AutoencoderKL.from_pretrained(FOLDERS[STABLE_DIFFUSION] / "vae", torch_dtype=torch.float32)
    test = prepared.splits.test
    with torch.no_grad():
        decoded = vae.decode(vae.encode(test.pixels.float() / 127.5 - 1).latent_dist.mean).sample
    pixels = ((decoded.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    classifier = AttributeClassifier.load(FOLDERS[STABLE_DIFFUSION].parent / CLASSIFIER.name)
    shown = classifier.predict(pixels, "creatures")
    expected = np.mean([a["head"] == b["head"] for a, b in zip(shown, test.attributes, strict=True)])
    inputs = prepared.evaluation.inputs
    assert figure(Alignment.of_attribute("head"), inputs).ceiling == expected
    scores = inputs.models.scorer.scores(pixels, test.captions)
    assert figure(ClipScore(), inputs).ceiling == pytest.approx(scores.mean(), rel=1e-4)
    assert scores.mean() != pytest.approx(inputs.models.scorer.scores(test.pixels, test.captions).mean(), rel=1e-4)


@pytest.mark.parametrize("metric", [KernelDistance(), FrechetDistance(), ExtrapolatedFrechetDistance()])
def test_distances_have_the_floor_of_as_many_pictures(prepared, metric):
    measured = figure(metric, prepared.evaluation.inputs)
    real = prepared.evaluation.inputs.real
    assert measured.floor == metric.distance(real.features("floor"), real.features("reference"))
    assert measured.floor is not None
    assert measured.reconstruction is not None
    assert measured.reconstruction > measured.floor


@pytest.mark.parametrize(
    ("kept", "metric", "has_floor"),
    [
        (0, KernelDistance(), False),
        (0, FrechetDistance(), False),
        (5, KernelDistance(), False),
        (11, KernelDistance(), True),
        (11, FrechetDistance(), False),
        (11, ExtrapolatedFrechetDistance(), False),
    ],
)
def test_a_floor_of_another_size_serves_unbiased_distances_alone(prepared, kept, metric, has_floor):
    inputs = prepared.evaluation.inputs
    pictures = draw(Creatures(), kept, OTHER, True)
    real = type(inputs.real)(replace(inputs.real.splits, floor=pictures), inputs.base, inputs.models, None)
    measured = figure(metric, replace(inputs, real=real))
    assert (measured.floor is not None, measured.reconstruction is not None) == (has_floor, has_floor)


def test_the_record_says_what_the_floor_is(prepared, tmp_path):
    assert prepared.facts["floor"] == REDRAWN
    base, data = write_base(tmp_path / "base"), write_pictures(tmp_path / "data", 10)
    few = Pokemon(base=str(base), data=str(data), validation_items=2, test_items=2, drift_items=0)
    assert few.prepare(CPU).facts["floor"] == "none"
