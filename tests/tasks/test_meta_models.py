"""Tasks as shapes: published sizes, and the same loss on the same model as the task itself."""

import json
from dataclasses import replace

import pytest
import torch

from adapters.backbone import ATTENTION_PARTS, count_roles
from tasks.bundled import bundled_bases
from tasks.diffusion.model.bases import configurations, load_meta
from tasks.diffusion.pokemon import Pokemon
from tasks.errors import TaskError
from tasks.language.e2e import EndToEnd
from tasks.language.style import Style
from tasks.pretrained.hub import Snapshot
from tasks.pretrained.published.shapes import LANGUAGE_MODEL, STABLE_DIFFUSION, names

# Counts from each model's card or paper; the SD parts are the UNet, the VAE and the text encoders.
LANGUAGE_MODELS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.1-8b": 8_030_261_248,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-3-270m": 268_098_176,
    "gemma-3-1b": 999_885_952,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
}
STABLE_DIFFUSIONS = {
    "sd-1-5": (859_520_964, 83_653_863, 123_060_480),
    "sd-2-1": (865_910_724, 83_653_863, 340_387_840),
    "sd-2-1-base": (865_910_724, 83_653_863, 340_387_840),
    "sdxl": (2_567_463_684, 83_653_863, 123_060_480, 694_659_840),
}
META = torch.device("meta")


def count(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_published_base_is_counted_here():
    assert set(names(LANGUAGE_MODEL)) == set(LANGUAGE_MODELS)
    assert set(names(STABLE_DIFFUSION)) == set(STABLE_DIFFUSIONS)


@pytest.mark.parametrize("base", LANGUAGE_MODELS)
def test_published_language_models(base):
    backbone = Style(base=base).meta_model().backbone
    assert count(backbone.model) == LANGUAGE_MODELS[base]
    assert all(parameter.is_meta for parameter in backbone.model.parameters())
    blocks = backbone.model.config.num_hidden_layers
    gate = set() if base.startswith("gpt2") else {"feed-forward.gate"}
    roles = {f"self-attention.{part}" for part in ATTENTION_PARTS} | {"feed-forward.in", "feed-forward.out"} | gate
    assert count_roles(backbone.all_projections()) == dict.fromkeys(sorted(roles), blocks)


@pytest.mark.parametrize("base", STABLE_DIFFUSIONS)
def test_published_stable_diffusions(base):
    model = load_meta(base)
    assert tuple(count(getattr(model, part)) for part in model.models) == STABLE_DIFFUSIONS[base]


def test_the_default_resolution_is_the_tutorials():
    shapes = {base: Pokemon(base=base).meta_model().batch(1, META).noisy.shape[-1] for base in STABLE_DIFFUSIONS}
    assert shapes == dict.fromkeys(STABLE_DIFFUSIONS, 64) | {"sdxl": 128}
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
    assert configurations("someone/some-model")["unet"]["in_channels"] == 8
    assert requested
    assert not any(file.endswith((".safetensors", ".bin")) for file in requested)
