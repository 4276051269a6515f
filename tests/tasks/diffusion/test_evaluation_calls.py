"""A diffusion task's meta model describes the calls that its run makes: how many pictures, how often, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.base import Task
from tasks.diffusion.dreambooth import DreamBooth
from tasks.diffusion.model.meta_model import DiffusionMetaModel
from tasks.diffusion.model.stable_diffusion import StableDiffusion
from tasks.diffusion.pokemon import Pokemon
from tests.tasks.diffusion.tiny_base import RESOLUTION, write_base, write_pictures

CPU = torch.device("cpu")
SHARED: dict[str, Any] = {"resolution": RESOLUTION, "num_inference_steps": 1, "evaluation_seeds": 2}
PROMPTS = ("a star", "a moon", "a sun")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(write_base(tmp_path_factory.mktemp("bases") / "tiny"))


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("ADAPTER_TESTBED_CACHE", str(tmp_path / "cache"))


class Calls:
    """Batch sizes of the UNet and of the decoder, in order."""

    def __init__(self, monkeypatch):
        self.predicted: list[int] = []
        self.decoded: list[int] = []
        real = StableDiffusion.decode_latents

        def decode_latents(base, latents):
            self.decoded.append(len(latents))
            return real(base, latents)

        monkeypatch.setattr(StableDiffusion, "decode_latents", decode_latents)

    def watch(self, unet: Any) -> None:
        unet.register_forward_pre_hook(lambda module, args: self.predicted.append(len(args[0])))

    def taken(self) -> list[int]:
        sizes, self.predicted = self.predicted, []
        return sizes


def described(task: Task, when: str) -> dict[str, int]:
    """How often each call is made, by name."""
    meta = task.meta_model()
    assert isinstance(meta, DiffusionMetaModel)
    calls = [call for call in meta.evaluation(CPU) if when in call.when]
    return {call.name: call.count * (call.seeds if when == "evaluation" else 1) for call in calls}


def test_pokemons_evaluation(folder, monkeypatch):
    task = Pokemon(base=folder, train_items=4, validation_items=3, test_items=5, drift_items=2, **SHARED)
    calls, prepared = Calls(monkeypatch), task.prepare(CPU)
    calls.watch(prepared.base.unet)
    prepared.evaluate()
    # five test prompts and two of the base's domain, each twice for guidance; three validation pictures
    assert sorted(calls.taken()) == sorted([10, 4, 3] * 2)
    assert described(task, "evaluation") == {
        "validation loss": 2,
        "sampling of 5 pictures": 4,
        "decoding of 5 pictures at a time": 4,
    }
    assert max(calls.decoded) == 5
    assert not described(task, "set-up")


def test_dreambooths_set_up_training_and_evaluation(folder, monkeypatch, tmp_path):
    task = DreamBooth(
        base=folder,
        prior_preservation=True,
        num_class_images=7,
        train_items=3,
        held_out=6,
        test_items=4,
        drift_items=2,
        validation_prompts=PROMPTS,
        **SHARED,
    )
    calls, sampled = Calls(monkeypatch), []
    monkeypatch.setattr(
        "tasks.diffusion.dreambooth_task.sample",
        lambda base, prompts, *_: (
            sampled.append(len(prompts)) or torch.zeros(len(prompts), 3, RESOLUTION, RESOLUTION, dtype=torch.uint8)
        ),
    )
    prepared = task.prepare(CPU)
    assert sampled == [7]
    assert described(task, "set-up") == {"sampling of 7 pictures": 1, "decoding of 7 pictures at a time": 1}
    calls.watch(prepared.base.unet)
    prepared.evaluate()
    # prompts of the subject, of its class, of the base's domain; validation pictures
    assert sorted(calls.taken()) == sorted([8, 8, 4, 6] * 2)
    expected = described(task, "evaluation")
    assert (expected["validation loss"], expected["sampling of 4 pictures"]) == (2, 6)
    assert "decoding of 6 pictures at a time" in expected  # real ones
    assert max(calls.decoded) == 6
    prepared.illustrate(tmp_path, 1)
    assert calls.taken() == [2 * len(PROMPTS)]
    assert described(task, "training")["sampling of 3 pictures"] == 1


@pytest.mark.parametrize(("pictures", "validation"), [(6, 0), (12, 1)])
def test_a_folder_of_few_pictures_has_no_validation_loss(folder, tmp_path, pictures, validation):
    data = write_pictures(tmp_path / "pictures", pictures)
    prompts = {"instance_prompt": "a red star", "prior_preservation": False}
    task = DreamBooth(base=folder, data=str(data), test_items=4, drift_items=2, **prompts, **SHARED)
    splits, shape = task.filled().splits(RESOLUTION), task.meta_model().shape
    assert shape is not None
    assert (shape.validation_items, shape.real_pictures) == (len(splits.validation), len(splits.test))
    assert shape.validation_items == validation
    assert ("validation loss" in described(task, "training")) is bool(validation)


def test_a_folder_that_is_elsewhere_is_planned_as_a_papers(folder):
    task = DreamBooth(base=folder, data="/nowhere/dog", instance_prompt="a photo of sks dog", **SHARED)
    shape = task.meta_model().shape
    assert shape is not None
    assert (shape.validation_items, shape.real_pictures) == (0, 1)


def test_pictures_of_validation_prompts_leave_no_model_behind(folder, tmp_path: Path):
    """What training does without is not on the device after them either."""
    task = Pokemon(
        base=folder,
        train_items=4,
        validation_items=1,
        test_items=0,
        drift_items=0,
        validation_prompts=PROMPTS,
        **SHARED,
    )
    prepared = task.prepare(CPU)
    next(prepared.batches(0, 0, 2))
    prepared.illustrate(tmp_path, 1)
    assert not {"vae", "text_encoder"} & prepared.base.__dict__.keys()
