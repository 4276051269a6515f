"""Tasks as shapes: published sizes, and the same loss on the same model as the task itself."""

import json
from dataclasses import replace

import pytest
import torch

from tasks.bundled import bundled_bases
from tasks.diffusion.model.bases import configurations, load_meta
from tasks.diffusion.pokemon import Pokemon
from tasks.errors import TaskError
from tasks.language.e2e import EndToEnd
from tasks.language.style import Style
from tasks.pretrained.hub import Snapshot
from tasks.pretrained.published.shapes import LANGUAGE_MODEL, STABLE_DIFFUSION, names

# Counts from each model's card or paper; the SD parts are the UNet, the VAE and the text encoder.
LANGUAGE_MODELS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
}
STABLE_DIFFUSIONS = {
    "sd-1-5": (859_520_964, 83_653_863, 123_060_480),
    "sd-2-1": (865_910_724, 83_653_863, 340_387_840),
    "sd-2-1-base": (865_910_724, 83_653_863, 340_387_840),
}
META = torch.device("meta")


def count(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_published_base_is_counted_here():
    assert set(names(LANGUAGE_MODEL)) == set(LANGUAGE_MODELS)
    assert set(names(STABLE_DIFFUSION)) == set(STABLE_DIFFUSIONS)


@pytest.mark.parametrize("base", LANGUAGE_MODELS)
def test_published_language_models(base):
    model = Style(base=base).meta_model().backbone.model
    assert count(model) == LANGUAGE_MODELS[base]
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("base", STABLE_DIFFUSIONS)
def test_published_stable_diffusions(base):
    model = load_meta(base)
    assert tuple(map(count, (model.unet, model.vae, model.text_encoder))) == STABLE_DIFFUSIONS[base]


def test_the_default_resolution_is_the_tutorials():
    shapes = {base: Pokemon(base=base).meta_model().batch(1, META).noisy.shape[-1] for base in STABLE_DIFFUSIONS}
    assert shapes == dict.fromkeys(STABLE_DIFFUSIONS, 64)
    assert Pokemon(base="sd-2-1", resolution=768).meta_model().batch(1, META).noisy.shape[-1] == 96


def test_only_what_every_batch_needs_stays_on_the_device():
    cached, on_the_fly = (Pokemon(encode=encode).meta_model() for encode in ("cached", "on-the-fly"))
    assert (set(cached.frozen), set(on_the_fly.frozen)) == (set(), {"vae"})
    trained = Pokemon(train_text_encoder=True).meta_model()
    base = load_meta(bundled_bases.STABLE_DIFFUSION)
    assert count(trained.backbone.model) == count(base.unet) + count(base.text_encoder)
    assert set(trained.batch(1, META).conditions) == {"input_ids"}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(
    "task",
    [Style(base="gpt2", max_length=40), EndToEnd(base="smollm2-135m"), Pokemon(), Pokemon(train_text_encoder=True)],
)
def test_the_loss_has_a_gradient_without_a_value(task, size):
    meta_model = task.meta_model()
    meta_model.backbone.model.requires_grad_(True)
    meta_model.loss(meta_model.batch(size, META)).backward()
    assert all(parameter.grad is not None for parameter in meta_model.backbone.model.parameters())


def test_a_folder_needs_no_weights(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 1}))
    assert Style(base=str(tmp_path)).meta_model().backbone.width == 8


@pytest.mark.parametrize("task", [Style(), EndToEnd(), Pokemon()])
def test_an_unknown_base_is_one_sentence(task):
    with pytest.raises(TaskError, match="'nowhere'"):
        replace(task, base="nowhere").meta_model()


def test_a_resolution_that_latents_cannot_have_is_refused():
    with pytest.raises(TaskError, match="multiple of 8"):
        Pokemon(base="sd-2-1", resolution=500).meta_model()


def test_a_plan_of_a_base_on_the_hub_fetches_no_weights(monkeypatch):
    requested = []

    def fetch(option, name, sources, files, kind):
        requested.extend(files)
        return Snapshot(bundled_bases.FOLDERS[bundled_bases.STABLE_DIFFUSION], name, "revision")

    monkeypatch.setattr("tasks.pretrained.hub.fetch", fetch)
    assert configurations("someone/some-model")["unet"]["in_channels"] == 16
    assert requested
    assert not any(file.endswith((".safetensors", ".bin")) for file in requested)
