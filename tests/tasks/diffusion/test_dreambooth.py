"""DreamBooth: which pictures train and which are held out, what a batch holds, and the similarity by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from adapters import Lora
from experiments import RunConfig, Train, run
from experiments.errors import UsageError
from experiments.sweeping.trial import Trial
from tasks.diffusion.data import splits
from tasks.diffusion.data.subject_folder import subject_folder
from tasks.diffusion.dreambooth import DreamBooth
from tasks.diffusion.evaluation.metrics.similarity import mean_cosine
from tasks.diffusion.model.noising import NoisyBatch
from tasks.diffusion.worlds.character import Character
from tasks.diffusion.worlds.drawing import SIZE
from tasks.errors import TaskError

CPU = torch.device("cpu")
SMALL = DreamBooth(num_class_images=3, test_items=4, drift_items=3, held_out=4, num_inference_steps=2)


@pytest.fixture(scope="module")
def prepared():
    return SMALL.prepare(CPU)


def folder_of(tmp_path, count):
    for i in range(count):
        Image.new("RGB", (40, 50), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_the_character_is_one_and_training_misses_some_backgrounds():
    sets = splits.character(12, 24, SIZE, "a picture of sks mushroom", {"kind": "mushroom"})
    assert {each["background"] for each in sets.train.attributes} <= {"white", "sand"}
    assert {each["background"] for each in sets.test.attributes} == set(Character.attributes["background"])
    assert set(sets.train.captions) == {"a picture of sks mushroom"}
    assert not {p.tobytes() for p in sets.train.pixels.numpy()} & {p.tobytes() for p in sets.test.pixels.numpy()}


def test_one_of_six_pictures_is_held_out(tmp_path):
    sets = subject_folder(folder_of(tmp_path, 6), None, 32, "sks", keep_whole=True)
    assert (len(sets.train), len(sets.test)) == (5, 1)
    assert sets.train.whole[0].shape == (3, 40, 32)


def test_a_few_pictures_are_trained_on_without_a_validation_loss(tmp_path):
    folder = str(folder_of(tmp_path, 5))
    task = replace(SMALL, data=folder, instance_prompt="sks", prior_preservation=False, held_out=None)
    record = run(Lora(rank=1), task, steps=2, runs=tmp_path / "runs")
    assert record.status == "finished"
    facts = record.data["facts"]
    assert (facts["train_items"], facts["validation_items"], facts["held_out_items"]) == (4, 0, 1)
    assert facts["not_measured"]["validation_loss"] == "needs at least one validation picture"
    assert "similarity" in record.figures
    config = RunConfig(Lora(rank=1), task, Train(steps=2)).resolved()
    with pytest.raises(UsageError, match="too few for validation items"):
        Trial(config, tmp_path / "trials").perform(task.prepare(CPU))


def weights(batch: NoisyBatch) -> list[float]:
    assert batch.weight is not None
    return batch.weight.tolist()


def test_a_batch_holds_as_many_class_pictures(prepared):
    batch = next(prepared.batches(0, 0, 2))
    assert len(batch.timestep) == 4
    assert weights(batch) == [2, 2, 2, 2]
    weighed = replace(SMALL, prior_loss_weight=0.5).prepare(CPU)
    assert weights(next(weighed.batches(0, 0, 2))) == [2, 2, 1, 1]
    without = replace(SMALL, prior_preservation=False).prepare(CPU)
    alone = next(without.batches(0, 0, 2))
    assert torch.equal(alone.noisy, batch.noisy[:2])


def test_every_metric_gives_a_figure(prepared):
    evaluation = prepared.evaluate()
    for name in ("similarity", "clip_i", "clip_score", "alignment", "leakage", "base_alignment", "validation_loss"):
        assert name in evaluation.figures
    similarity = evaluation.figures["similarity"]
    assert similarity.ceiling is not None
    assert similarity.ceiling > similarity.value, "the base does not know the subject"
    finished = prepared.finish(evaluation, evaluation)
    assert finished.figures["drift"].value == pytest.approx(0, abs=1e-6)
    assert [row["item"] for row in finished.items] == [0, 1, 2, 3]


def test_mean_cosine_by_hand():
    features, reference = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 3.0], [5.0, 0.0]])
    assert mean_cosine(features, reference) == pytest.approx(np.array([0.5, np.sqrt(0.5)]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": "somewhere"}, "instance-prompt"),
        ({"data": "somewhere", "instance_prompt": "sks dog"}, "class-prompt"),
        ({"data": "nowhere", "instance_prompt": "sks dog", "class_prompt": "dog"}, "it has 0"),
        ({"num_class_images": 0}, "num-class-images"),
        ({"prior_loss_weight": 0.0}, "prior-loss-weight"),
    ],
)
def test_settings_that_cannot_work_are_one_sentence(settings, message):
    with pytest.raises(TaskError, match=message) as refusal:
        replace(SMALL, **settings).prepare(CPU)
    assert "\n" not in str(refusal.value)


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    (folder_of(tmp_path, 6) / "3.png").write_bytes(b"no picture")
    with pytest.raises(TaskError, match=r"3\.png"):
        subject_folder(tmp_path, None, 32, "sks", keep_whole=False)
