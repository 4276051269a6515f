"""Stable Diffusion XL on a tiny random model: the loss of diffusers' script, sampling, files, shapes for a plan."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from PIL import Image

from adapters.lora import Lora
from experiments.records.adapter_file import write_exports
from tasks.base import Evaluation
from tasks.diffusion.dreambooth import DreamBooth
from tasks.diffusion.model import bases, cards
from tasks.diffusion.model.noising import _draw, generator_of
from tasks.diffusion.model.sampling import noise_seed, sample
from tasks.diffusion.model.stable_diffusion_xl import StableDiffusionXL
from tasks.diffusion.pokemon import Pokemon
from tasks.shuffling import shuffled_indices
from tests.tasks.diffusion.tiny_base import RESOLUTION, write_xl_base

CPU = torch.device("cpu")
SIZES = [(24, 40), (40, 18), (16, 16), (31, 57), (20, 33), (64, 16), (17, 23), (16, 48), (50, 25), (19, 19)]  # h, w
CROPS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_xl_base(tmp_path_factory.mktemp("bases") / "tiny-xl")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Pictures of all shapes with captions."""
    folder = tmp_path_factory.mktemp("pictures")
    generator, lines = np.random.default_rng(0), []
    for i, (height, width) in enumerate(SIZES):
        Image.fromarray(generator.integers(0, 255, (height, width, 3), np.uint8)).save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": f"a red star {i}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def task(folder, pictures) -> Pokemon:
    held_out = {"validation_items": 2, "test_items": 2, "drift_items": 0}
    augmentation = {"crop": "random", "crops": CROPS, "random_flip": True, "caption_dropout": 0.0}
    return Pokemon(base=str(folder), data=str(pictures), resolution=RESOLUTION, **held_out, **augmentation)


def script_loss(
    folder: Path, pictures: Path, positions: list[int], variants: list[int], draws: list[Any]
) -> torch.Tensor:
    """The loss of examples/text_to_image/train_text_to_image_lora_sdxl.py, with diffusers' and transformers' parts.

    A picture is resized, flipped, cropped (`variants`: crop and flip), and described by its size before, the crop's
    corner and the target size.
    """
    pipe: Any = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    scheduler: Any = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    pixels, original_sizes, corners, captions = [], [], [], []
    for position, variant in zip(positions, variants, strict=True):
        image = Image.open(pictures / f"{position}.png")
        original_sizes.append((image.height, image.width))
        captions.append(f"a red star {position}")
        scale = RESOLUTION / min(image.size)
        width, height = round(image.width * scale), round(image.height * scale)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
        crop, flip = variant // 2, variant % 2
        y = round(crop / (CROPS - 1) * (height - RESOLUTION))
        x = round(crop / (CROPS - 1) * (width - RESOLUTION))
        if flip:
            image, x = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), width - RESOLUTION - x
        corners.append((y, x))
        part = image.crop((x, y, x + RESOLUTION, y + RESOLUTION))
        pixels.append(torch.from_numpy(np.asarray(part).copy()).permute(2, 0, 1).float() / 127.5 - 1)
    posterior = pipe.vae.encode(torch.stack(pixels)).latent_dist
    model_input = (posterior.mean + posterior.std * torch.stack([d[0] for d in draws])) * pipe.vae.config.scaling_factor
    noise, timesteps = (torch.stack([d[i] for d in draws]) for i in (1, 2))
    noisy = scheduler.add_noise(model_input, noise, timesteps)
    target_size = (RESOLUTION, RESOLUTION)
    time_ids = torch.tensor([size + corner + target_size for size, corner in zip(original_sizes, corners, strict=True)])
    states, pooled = [], None
    for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
        ids = tokenizer(captions, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
        outputs = encoder(ids, output_hidden_states=True, return_dict=False)
        pooled, states = outputs[0], [*states, outputs[-1][-2]]
    added = {"time_ids": time_ids, "text_embeds": pooled}
    predicted = pipe.unet(noisy, timesteps, torch.cat(states, dim=-1), added_cond_kwargs=added, return_dict=False)[0]
    return F.mse_loss(predicted.float(), noise.float(), reduction="mean")


@pytest.mark.parametrize("train_text_encoder", [False, True])
def test_the_loss_is_that_of_diffusers_script(task, folder, pictures, train_text_encoder):
    prepared = replace(task, train_text_encoder=train_text_encoder).prepare(CPU)
    size, seed = 6, 3
    batch = next(prepared.batches(seed, 0, size))
    trained = [int(Path(name).stem) for name in prepared.splits.train.names]
    positions = [trained[i] for i in shuffled_indices(seed, 0, size, len(trained))]
    draws = [_draw((4, 8, 8), 1000, generator_of(seed, i)) for i in range(size)]
    variants = [int(draw[4][0] * 2 * CROPS) for draw in draws]
    theirs = script_loss(folder, pictures, positions, variants, draws)
    torch.testing.assert_close(prepared.loss(batch), theirs, rtol=1e-4, atol=1e-5)
    assert len({tuple(row) for row in batch.conditions["time_ids"].tolist()}) > 2


def test_windows_of_free_crops_are_where_the_pixels_are(task):
    """The window of each drawn view, cut out of the resized picture, is the view."""
    prepared = replace(task, encode="on-the-fly").prepare(CPU)
    shown, latents = prepared.splits.train, prepared.training.latents
    index, views = torch.arange(len(shown)), torch.rand(len(shown), 2, generator=torch.Generator().manual_seed(1))
    windows = latents.windows(index, views)
    drawn = prepared.augmentation.drawn(shown, index, views[:, 0], views[:, 1] < 0.5)
    assert (views[:, 1] < 0.5).any()
    for i, (height, width, top, left, rows, columns) in enumerate(windows.tolist()):
        assert (height, width) == Image.open(Path(task.data) / shown.names[i]).size[::-1]
        whole = shown.whole[i].flip(-1) if views[i, 1] < 0.5 else shown.whole[i]
        assert torch.equal(whole[:, top : top + rows, left : left + columns], drawn[i])


def test_centre_crops_without_whole_pictures(task):
    """Validation and `--task.crop center`: the corner that torchvision's CenterCrop has in the resized picture."""
    prepared = replace(task, crop="center", random_flip=False).prepare(CPU)
    batch = prepared.training.batch(torch.arange(len(prepared.training)), 0, 0)
    for name, row in zip(prepared.splits.train.names, batch.conditions["time_ids"].tolist(), strict=True):
        height, width = Image.open(Path(task.data) / name).size[::-1]
        longer = round(max(height, width) * RESOLUTION / min(height, width))
        corner = round((longer - RESOLUTION) / 2)
        expected = (corner, 0) if height > width else (0, corner)
        assert row == [height, width, *expected, RESOLUTION, RESOLUTION]


def test_a_dropped_caption_is_what_sampling_without_a_prompt_takes(folder, tmp_path):
    base = bases.load(str(folder), CPU)
    pipeline = base.pipeline()
    _, negative, _, negative_pooled = pipeline.encode_prompt("a star", do_classifier_free_guidance=True)
    encoded = base.encode_text(["a star", ""])
    empty = base.empty_conditions({name: tensor[-1] for name, tensor in encoded.items()})
    torch.testing.assert_close(empty["encoder_hidden_states"], negative[0])
    torch.testing.assert_close(empty["text_embeds"], negative_pooled[0])
    other = shutil.copytree(folder, tmp_path / "other")
    index = json.loads((other / "model_index.json").read_text()) | {"force_zeros_for_empty_prompt": False}
    (other / "model_index.json").write_text(json.dumps(index))
    encodes = bases.load(str(other), CPU)
    _, negative, _, _ = encodes.pipeline().encode_prompt("a star", do_classifier_free_guidance=True)
    assert negative.abs().max() > 0
    states = encodes.empty_conditions({"encoder_hidden_states": encodes.encode_text([""])["encoder_hidden_states"][0]})
    torch.testing.assert_close(states["encoder_hidden_states"], negative[0], atol=1e-5, rtol=1e-4)


def test_prompts_are_encoded_as_the_pipeline_does(folder):
    base = bases.load(str(folder), CPU)
    prompts = ["a red star", "a blue moon", "a red star"]
    states, _, pooled, _ = base.pipeline().encode_prompt(prompts, do_classifier_free_guidance=False)
    ours = base.encode_text(prompts)
    torch.testing.assert_close(ours["encoder_hidden_states"], states, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours["text_embeds"], pooled, atol=1e-5, rtol=1e-4)


def picture_of_diffusers(folder: Path, prepared: Any, lora: Path) -> np.ndarray:
    theirs: Any = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32, add_watermarker=False)
    theirs.scheduler = prepared.base.pipeline().scheduler
    theirs.load_lora_weights(lora)
    theirs.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(noise_seed(0, 0))
    settings = {"num_inference_steps": 2, "guidance_scale": prepared.sampling.guidance_scale}
    return np.asarray(theirs("a red star", generator=generator, **settings).images[0], int)


@pytest.mark.parametrize("format", ["diffusers", "kohya"])
@pytest.mark.parametrize("train_text_encoder", [False, True])
def test_a_trained_lora_gives_diffusers_the_same_picture(task, folder, tmp_path, train_text_encoder, format):
    prepared = replace(task, train_text_encoder=train_text_encoder).prepare(CPU)
    before = sample(prepared.base, ["a red star"], prepared.sampling)
    torch.manual_seed(0)
    attachment = Lora(rank=2, alpha=8.0, targets=("attention",)).attach(prepared.backbone)
    optimizer = torch.optim.AdamW(attachment.parameters().values(), lr=0.1)
    for step, batch in zip(range(4), prepared.batches(0, 0, 4), strict=False):
        prepared.loss(batch).backward()
        missing = [name for name, p in attachment.parameters().items() if p.grad is None]
        assert not missing, "every update trains"
        optimizer.step()
        optimizer.zero_grad()
        assert step < 4
    write_exports(attachment.export(format), tmp_path)
    ours = sample(prepared.base, ["a red star"], prepared.sampling)
    attachment.detach()
    assert (ours.int() - before.int()).abs().max() > 3, "training changes the picture"
    difference = picture_of_diffusers(folder, prepared, tmp_path) - ours[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(difference).max() <= 1


def test_all_weights_of_the_model_have_a_gradient_and_the_pipeline_has_them(task, folder):
    """Data-parallel training refuses weights that take no part."""
    prepared = replace(task, train_text_encoder=True).prepare(CPU)
    model = prepared.backbone.model
    model.requires_grad_(True)
    prepared.loss(next(prepared.batches(0, 0, 2))).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    pipeline = prepared.base.pipeline()
    whole = {id(p) for part in ("unet", "text_encoder", "text_encoder_2") for p in getattr(pipeline, part).parameters()}
    assert {id(p) for p in model.parameters()} <= whole


def test_the_vae_computes_in_fp32_under_autocast(folder):
    base = bases.load(str(folder), CPU)
    pixels = torch.randint(256, (2, 3, RESOLUTION, RESOLUTION), dtype=torch.uint8)
    moments = base.encode_images(pixels)
    pictures = base.decode_latents(moments[:, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(base.encode_images(pixels), moments)
        assert torch.equal(base.decode_batch(moments[:, 0]), pictures)


def test_a_saved_model_is_a_pipelines_folder_and_a_base(folder, tmp_path):
    task = Pokemon(base=str(folder))
    loaded = task.load_base(CPU)
    prompts = ["a red star"]
    before = loaded.sample(prompts, 0, 2, 2.0)
    loaded.save(tmp_path / "saved")
    again = replace(task, base=str(tmp_path / "saved")).load_base(CPU)
    assert isinstance(again.base, StableDiffusionXL)
    assert torch.equal(again.sample(prompts, 0, 2, 2.0), before)
    theirs = StableDiffusionXLPipeline.from_pretrained(tmp_path / "saved")
    assert type(theirs.scheduler) is DDPMScheduler


def test_a_whole_run_on_the_command_line(task, folder, tmp_path, monkeypatch):
    from experiments.run import main

    words = [
        "run",
        "lora",
        "sd-pokemon",
        "--task.base",
        str(folder),
        "--task.data",
        task.data,
        "--task.test-items",
        "2",
    ]
    words += ["--task.drift-items", "2", "--train.steps", "2", "--train.batch-size", "2", "--train.device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*words, "--runs", str(tmp_path)])
    main()
    (file,) = tmp_path.rglob("result.json")
    record = json.loads(file.read_text())
    assert record["status"] == "finished"
    assert (file.parent / "pytorch_lora_weights.safetensors").is_file()
    assert {"clip_score", "validation_loss", "drift"} <= record["metrics"].keys()


def test_prior_preservation_joins_batches_with_all_conditions(folder):
    task = DreamBooth(base=str(folder), num_class_images=2, train_items=3, resolution=RESOLUTION)
    task = replace(task, prior_preservation=True, num_inference_steps=1, test_items=4, held_out=4)
    batch = next(task.prepare(CPU).batches(0, 0, 2))
    assert {name: len(tensor) for name, tensor in batch.conditions.items()} == {
        "encoder_hidden_states": 4,
        "text_embeds": 4,
        "time_ids": 4,
    }
    assert batch.conditions["time_ids"][2].tolist() == [RESOLUTION, RESOLUTION, 0, 0, RESOLUTION, RESOLUTION]


def test_evaluation_measures_the_untuned_base(task):
    evaluation = task.prepare(CPU).evaluate()
    assert isinstance(evaluation, Evaluation)
    assert "validation_loss" in evaluation.figures


def test_sharded_weights_are_read_whole(folder, tmp_path):
    whole = bases.load(str(folder), CPU)
    shutil.copytree(folder, tmp_path / "shards", ignore=shutil.ignore_patterns("diffusion_pytorch_model*"))
    whole.unet.save_pretrained(tmp_path / "shards" / "unet", max_shard_size="100KB")
    whole.vae.save_pretrained(tmp_path / "shards" / "vae")
    assert len(list((tmp_path / "shards" / "unet").glob("*-of-*.safetensors"))) > 1
    read = bases.load(str(tmp_path / "shards"), CPU)
    for name, weight in read.unet.state_dict().items():
        assert torch.equal(weight, whole.unet.state_dict()[name]), name


@pytest.mark.parametrize("trained", [False, True])
def test_meta_shapes_are_those_of_real_batches(task, trained):
    """What a plan steps through has the shapes and dtypes of the run's own batch."""
    task = replace(task, train_text_encoder=trained)
    real, meta = task.prepare(CPU), task.meta_model()
    expected, planned = next(real.batches(0, 0, 3)), meta.batch(3, torch.device("meta"))
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in expected.conditions.items()}
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in planned.conditions.items()} == shapes
    assert meta.loss(planned).shape == ()
    encoders = set() if trained else {"text_encoder", "text_encoder_2"}
    assert set(meta.evaluation_models) == {"vae"} | encoders


def test_its_card_is_for_1024_pixels_and_known_from_the_index(folder, tmp_path):
    assert Pokemon(base="sdxl").filled().resolution == DreamBooth(base="sdxl").filled().resolution == 1024
    assert Pokemon(base="stabilityai/stable-diffusion-xl-base-1.0").base == "sdxl"
    assert Pokemon(base="sd-1-5").filled().resolution == 512
    without_card = shutil.copytree(folder, tmp_path / "theirs")
    (without_card / "card.json").unlink()
    assert cards.card_of(str(without_card))["sampling"]["guidance_scale"] == 5.0
