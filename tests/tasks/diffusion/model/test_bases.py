"""Which class a base has, and which of its files are fetched."""

import json
from pathlib import Path

import pytest

from tasks.diffusion.model import bases
from tasks.diffusion.model.stable_diffusion import StableDiffusion
from tasks.errors import TaskError
from tasks.pretrained.hub import Snapshot
from tasks.pretrained.published.shapes import PUBLISHED, STABLE_DIFFUSION, names, published


class TwoEncoders(StableDiffusion):
    """Another kind of diffusion model, declared by its class alone."""

    pipeline_class = "TwoEncodersPipeline"
    parts = (*StableDiffusion.parts, "text_encoder_2")
    models = (*StableDiffusion.models, "text_encoder_2")
    description_files = (*StableDiffusion.description_files, "tokenizer_2/*", "text_encoder_2/config.json")
    weight_files = (*StableDiffusion.weight_files, "text_encoder_2/model.safetensors")
    pickle_files = (*StableDiffusion.pickle_files, "text_encoder_2/pytorch_model.bin")


@pytest.fixture(autouse=True)
def _with_another_class(monkeypatch):
    classes = {**bases.model_classes(), TwoEncoders.pipeline_class: TwoEncoders}
    monkeypatch.setattr(bases, "model_classes", lambda: classes)
    bases.find_source.cache_clear()
    yield
    bases.find_source.cache_clear()


@pytest.fixture
def fetched(tmp_path, monkeypatch) -> list[str]:
    """Files fetched from the hub; the repository holds a model with two text encoders."""
    write_folder(tmp_path, TwoEncoders)
    files: list[str] = []

    def fetch(option, name, sources, patterns, kind):
        files.extend(patterns)
        return Snapshot(tmp_path, name, "revision")

    monkeypatch.setattr(bases.hub, "fetch", fetch)
    return files


def write_folder(folder: Path, cls: type[StableDiffusion]) -> None:
    for part in cls.parts:
        (folder / part).mkdir()
    (folder / bases.INDEX).write_text(json.dumps({"_class_name": cls.pipeline_class}))


def test_the_index_of_a_folder_names_its_class(tmp_path):
    write_folder(tmp_path, TwoEncoders)
    assert bases.model_class(tmp_path, "theirs") is TwoEncoders
    (tmp_path / bases.INDEX).unlink()
    assert bases.model_class(tmp_path, "theirs") is StableDiffusion


def test_a_pipeline_without_a_class_is_an_error(tmp_path):
    (tmp_path / bases.INDEX).write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(TaskError, match=r"is a FluxPipeline, which is not supported; expected StableDiffusionPipeline"):
        bases.model_class(tmp_path, "theirs")


@pytest.mark.parametrize(
    ("allow_pickle", "weights", "expected"),
    [
        (False, True, {*TwoEncoders.weight_files}),
        (True, True, {*TwoEncoders.weight_files, *TwoEncoders.pickle_files}),
        (False, False, set()),
    ],
)
def test_the_files_of_a_hub_base_are_those_of_its_class(fetched, allow_pickle, weights, expected):
    bases.folder_of("someone/two-encoders", allow_pickle, weights)
    sharded = {pattern for file in expected for pattern in bases._with_shards(file)}
    assert set(fetched) == {bases.INDEX, *TwoEncoders.description_files, *sharded}
    assert not weights or "unet/diffusion_pytorch_model-?????-of-?????.safetensors" in fetched


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("SDXL", "sdxl"),
        ("sd-xl", "sdxl"),
        ("sdxl-base", "sdxl"),
        ("stable-diffusion-xl-base-1.0", "sdxl"),
        ("sd21", "sd-2-1"),
        ("sd1.5", "sd-1-5"),
        ("stable-diffusion-2-1-base", "sd-2-1-base"),
        ("mni", "mini"),
        ("stable-diffusion", "sd-1-5, sd-2-1, sd-2-1-base or sdxl"),
    ],
)
def test_names_that_people_type_get_a_hint(typed, meant):
    with pytest.raises(TaskError, match=rf"\(did you mean {meant}\?\)"):
        bases.folder_of(typed)


def test_the_hubs_name_of_a_published_base_is_that_base():
    assert published("stabilityai/stable-diffusion-xl-base-1.0", STABLE_DIFFUSION) == published(
        "sdxl", STABLE_DIFFUSION
    )


def test_a_folder_that_lacks_a_part_is_an_error(tmp_path):
    write_folder(tmp_path, TwoEncoders)
    (tmp_path / "text_encoder_2").rmdir()
    with pytest.raises(TaskError, match="has no text_encoder_2"):
        bases.folder_of(str(tmp_path))


@pytest.mark.parametrize("base", names(STABLE_DIFFUSION))
def test_a_published_base_names_its_class(base, monkeypatch):
    content = json.loads((PUBLISHED / f"{base}.json").read_text())
    assert content["pipeline"] in bases.model_classes()
    monkeypatch.setattr(bases, "published", lambda *_: content | {"pipeline": "FluxPipeline"})
    with pytest.raises(TaskError, match="is a FluxPipeline"):
        bases.load_meta(base)
