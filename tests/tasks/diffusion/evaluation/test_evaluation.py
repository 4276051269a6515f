"""The evaluation: a metric is one class in a task's list, and the base's cached figures are those it would measure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
import torch

from experiments.session import base_evaluation
from tasks.base import declare
from tasks.diffusion.evaluation.metrics.alignment import Alignment
from tasks.diffusion.evaluation.metrics.distance import DistanceMetric
from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric
from tasks.diffusion.evaluation.metrics.kid import KernelDistance
from tasks.diffusion.pokemon import ATTRIBUTES, Pokemon
from tasks.diffusion.settings import DiffusionSettings
from tasks.diffusion.worlds.creatures import Creatures
from tests.tasks.diffusion.tiny_base import write_base, write_pictures
from tests.tasks.json_file import edit_json

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTER_TESTBED_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def task(tmp_path):
    base, data = write_base(tmp_path / "base"), write_pictures(tmp_path / "data", 20)
    return Pokemon(base=str(base), data=str(data), validation_items=2, test_items=2, drift_items=1, encode="cached")


def recorded_and_measured(task):
    """The base's figures as a run records them, perhaps from the cache, and as they are without it."""
    prepared = task.prepare(CPU)
    recorded = {name: figure.value for name, figure in base_evaluation(prepared).figures.items()}
    return recorded, {name: figure.value for name, figure in prepared.evaluate().figures.items()}


def another_caption(base, data):
    text = (data / "metadata.jsonl").read_text()
    (data / "metadata.jsonl").write_text(text.replace("a small red star", "a big blue house"))


def another_scheduler(base, data):
    edit_json(base / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")


def another_model_configuration(base, data):
    edit_json(base / "vae" / "config.json", scaling_factor=0.5)


def another_text_encoder_configuration(base, data):
    edit_json(base / "text_encoder" / "config.json", hidden_act="relu")


def another_tokenizer(base, data):
    edit_json(base / "tokenizer" / "tokenizer_config.json", model_max_length=6)


@pytest.mark.parametrize(
    "change",
    [
        another_caption,
        another_scheduler,
        another_model_configuration,
        another_text_encoder_configuration,
        another_tokenizer,
    ],
)
def test_recorded_base_figures_are_those_measured_after_a_change(task, tmp_path, change):
    before, _ = recorded_and_measured(task)
    change(tmp_path / "base", tmp_path / "data")
    recorded, measured = recorded_and_measured(task)
    assert recorded == measured
    assert recorded != before


def test_recorded_base_figures_are_those_measured_with_other_validation_items(task):
    before, _ = recorded_and_measured(task)
    recorded, measured = recorded_and_measured(replace(task, validation_items=1))
    assert recorded == measured
    assert recorded["validation_loss"] != before["validation_loss"]


def test_an_unchanged_configuration_uses_the_cache(task):
    keys = [task.prepare(CPU).evaluation_key for _ in range(2)]
    assert keys[0] == keys[1]


@dataclass(frozen=True)
class Brightness(ImageMetric):
    """A metric as a user adds one: a class, and its name in the task's list."""

    name: str = "brightness"
    better: Literal["lower", "higher"] = "higher"
    unit: str = "of 255"
    meaning: str = "mean pixel value"
    needs: tuple[str, ...] = ("pictures",)

    def compute(self, inputs):
        values = inputs.pictures.double().mean(dim=(1, 2, 3)).numpy()
        return self.mean(values, "pixels", inputs.prompts)


def test_a_metric_in_the_tasks_list_is_measured_and_keyed(task, monkeypatch):
    plain = task.prepare(CPU).evaluation_key
    keys = []
    for version in (1, 2):
        monkeypatch.setattr(Pokemon, "metrics", declare(*Pokemon.metrics.values(), Brightness(version=version)))
        prepared = task.prepare(CPU)
        keys.append(prepared.evaluation_key)
        monkeypatch.undo()
    assert plain not in keys
    assert keys[0] != keys[1]
    evaluation = prepared.evaluate()
    assert evaluation.figures["brightness"].unit == "of 255"
    assert [row["brightness"] for row in evaluation.items] == pytest.approx(
        prepared.evaluate().artifacts["shown"].double().mean(dim=(1, 2, 3)).tolist()
    )


@pytest.mark.parametrize("settings", [{"attributes": ("eyes",)}, {"world": "objects"}, {"shuffle": False}])
def test_settings_of_a_metric_are_in_the_key(settings):
    assert Alignment(**settings).implementation() != Alignment().implementation()


def test_a_task_with_other_attributes_has_another_key(monkeypatch):
    task = Pokemon(train_items=1, validation_items=1, test_items=1, drift_items=0)
    keys = []
    for attributes in (("eyes",), ("eyes", "head")):
        monkeypatch.setattr(Pokemon, "metrics", declare(Alignment(attributes=attributes)))
        keys.append(task.prepare(CPU).evaluation_key)
    assert keys[0] != keys[1]


def test_labels_of_a_metric_are_not_in_the_key():
    assert Alignment(meaning="another").implementation() == Alignment().implementation()


def test_releases_of_the_packages_are_in_the_key(monkeypatch):
    before = KernelDistance().implementation()
    assert {"torchmetrics", "scipy"} <= before[-1].keys()
    assert None not in before[-1].values()
    monkeypatch.setattr("tasks.diffusion.evaluation.metrics.image_metric.release", lambda package: "0.0")
    assert KernelDistance().implementation() != before


def test_an_incomplete_metric_or_task_cannot_be_instantiated():
    class WithoutCompute(ImageMetric):
        pass

    class WithoutDistance(DistanceMetric):
        pass

    class WithoutPrompts(DiffusionSettings):
        def splits(self, resolution):
            return resolution

        def base_prompts(self):
            return []

    label: Any = {"name": "x", "better": "lower", "unit": "", "meaning": "x"}
    incomplete: list[tuple[Any, str, dict]] = [
        (WithoutCompute, "compute", label),
        (WithoutDistance, "distance", label),
        (WithoutPrompts, "prompts", {}),
    ]
    for cls, missing, settings in incomplete:
        with pytest.raises(TypeError, match=f"abstract.*{missing}"):
            cls(**settings)


def test_metrics_without_what_they_need_are_left_out_and_named(task):
    prepared = task.prepare(CPU)
    assert prepared.evaluation.left_out["kid"] == ["10 pictures"]
    assert prepared.evaluation.left_out["cmmd"] == ["10 pictures", "CLIP features"]
    evaluation = prepared.evaluate()
    assert "at least 10 test prompts" in evaluation.not_measured["kid"]
    assert set(evaluation.figures) == {"clip_score", "validation_loss"}


def test_a_need_that_nobody_knows_is_an_error():
    with pytest.raises(ValueError, match=r"needs \['a GPU'\]; valid needs: pictures"):
        Brightness(needs=("a GPU",))


def test_every_attribute_of_a_creature_has_its_alignment():
    assert tuple(Creatures.attributes) == ATTRIBUTES
    assert all(isinstance(Pokemon.metrics[f"alignment_{name}"], Alignment) for name in ATTRIBUTES)
