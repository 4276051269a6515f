"""The shared settings on the bundled base: what is cached, what trains, what stays in memory."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from adapters.lora import Lora
from experiments.records.adapter_file import write_exports
from tasks.bundled.bundled_bases import FOLDERS, STABLE_DIFFUSION
from tasks.diffusion.model.latents import CachedLatents
from tasks.diffusion.model.sampling import noise_seed, sample
from tasks.diffusion.pokemon import Pokemon
from tasks.diffusion.worlds.drawing import SIZE
from tasks.errors import TaskError
from tests.tasks.diffusion.tiny_base import write_pictures

CPU = torch.device("cpu")
SMALL = Pokemon(train_items=10, validation_items=4, test_items=2, drift_items=0, num_inference_steps=2)


@pytest.fixture(scope="module")
def cached():
    return SMALL.prepare(CPU)


def first_batch(prepared):
    return next(prepared.batches(0, 0, 4))


def test_training_holds_the_unet_alone_and_sampling_reads_the_rest_again(cached):
    first_batch(cached)
    assert not {"vae", "text_encoder"} & vars(cached.base).keys()
    assert sample(cached.base, ["a star"], cached.sampling).shape == (1, 3, SIZE, SIZE)


def test_without_flips_and_crops_encoding_on_the_fly_gives_the_same_batches(cached):
    fresh = replace(SMALL, encode="on-the-fly").prepare(CPU)
    ours, theirs = first_batch(fresh), first_batch(cached)
    torch.testing.assert_close(ours.noisy, theirs.noisy, atol=1e-4, rtol=1e-4)
    assert "vae" in vars(fresh.base)


def test_flips_are_drawn_from_two_cached_variants(cached):
    flipped = replace(SMALL, random_flip=True).prepare(CPU)
    both, one = flipped.training.latents, cached.training.latents
    assert isinstance(both, CachedLatents)
    assert both.variants.shape[1] == 2
    assert torch.equal(both.variants[:, 0], one.variants[:, 0])
    assert flipped.facts["augmentation"]["variants"] == 2
    losses = {prepared.validation_loss() for prepared in (flipped, cached)}
    assert len(losses) == 1, "validation pictures are not augmented"


def test_validation_prompts_become_pictures(tmp_path):
    prepared = replace(SMALL, validation_prompts=("a star", "a red car")).prepare(CPU)
    files = prepared.illustrate(tmp_path, 7)
    assert [str(file.relative_to(tmp_path)) for file in files] == ["step-000007/0.png", "step-000007/1.png"]


@pytest.fixture(scope="module")
def with_text_encoder():
    return replace(SMALL, train_text_encoder=True).prepare(CPU)


def test_the_text_encoder_trains_too(with_text_encoder, cached):
    prepared = with_text_encoder
    torch.testing.assert_close(prepared.loss(first_batch(prepared)), cached.loss(first_batch(cached)))
    attachment = Lora(rank=2).attach(prepared.backbone)
    prepared.loss(first_batch(prepared)).backward()
    of_text = {name: p.grad for name, p in attachment.parameters().items() if name.startswith("text_encoder.")}
    assert any(gradient is not None and gradient.any() for gradient in of_text.values())
    attachment.detach()


def test_diffusers_loads_the_text_encoders_updates(with_text_encoder, tmp_path):
    from diffusers import StableDiffusionPipeline

    prepared = with_text_encoder
    torch.manual_seed(0)
    attachment = Lora(rank=2, alpha=8.0).attach(prepared.backbone)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    write_exports(attachment.export(), tmp_path)
    ours = sample(prepared.base, ["a red star"], prepared.sampling)[0].permute(1, 2, 0).numpy()
    attachment.detach()
    theirs: Any = StableDiffusionPipeline.from_pretrained(FOLDERS[STABLE_DIFFUSION], torch_dtype=torch.float32)
    theirs.scheduler = prepared.base.pipeline().scheduler
    theirs.load_lora_weights(tmp_path)
    generator = torch.Generator().manual_seed(noise_seed(0, 0))
    guidance = prepared.sampling.guidance_scale
    picture = theirs("a red star", num_inference_steps=2, guidance_scale=guidance, generator=generator).images[0]
    assert np.abs(np.asarray(picture, int) - ours.astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"caption_dropout": 1.0}, "caption-dropout"),
        ({"crops": 0}, "crops"),
        ({"num_inference_steps": 0}, "num-inference-steps"),
        ({"snr_gamma": 0.0}, "snr-gamma"),
        ({"noise_offset": -0.1}, "noise-offset"),
        ({"resolution": 33}, "multiple of 4"),
    ],
)
def test_settings_that_cannot_work_are_one_sentence(settings, message):
    with pytest.raises(TaskError, match=message) as refusal:
        replace(SMALL, **settings).prepare(CPU)
    assert "\n" not in str(refusal.value)


def test_pictures_are_read_before_the_base(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.diffusion.model.bases.load", lambda *_: pytest.fail("the base was loaded first"))
    folder = write_pictures(tmp_path / "p")
    (folder / "3.png").write_bytes(b"not a picture")
    with pytest.raises(TaskError, match=r"3\.png"):
        Pokemon(data=str(folder)).prepare(CPU)


def test_captions_that_are_cut_are_counted_and_said(tmp_path, capsys):
    folder = write_pictures(tmp_path / "p", 10)
    long = "a small red star " * 18  # at least a token a word; the text encoder reads 32
    lines = [json.dumps({"file_name": f"{i}.png", "text": f"{long}{i}" if i < 6 else "short"}) for i in range(10)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    prepared = Pokemon(data=str(folder), drift_items=0, test_items=2, validation_items=2).prepare(CPU)
    assert prepared.facts["captions_cut"] == {"limit_tokens": 32, "train": 4, "validation": 1, "test": 1}
    assert "captions of more than 32 tokens, cut there: 4 of 7 in train" in capsys.readouterr().err
