"""A Stable Diffusion folder of random weights, and an image folder, both small enough for second-long tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPTokenizer

from tasks.bundled.bundled_bases import FOLDERS, STABLE_DIFFUSION
from tasks.bundled.recipes.unet import MODEL_INDEX
from tests.contract import tiny

RESOLUTION = 16
CARD = {
    "targets": ["all"],
    "sampling": {"num_inference_steps": 2, "guidance_scale": 2.0},
    "sd-pokemon": {"task": {"resolution": RESOLUTION}},  # not the 512 pixels of published bases
}


def write_base(folder: Path) -> Path:
    """16-pixel pictures, latents of 4 x 8 x 8, the bundled tokenizer."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    vae = tiny_vae()
    text = CLIPTextConfig(
        vocab_size=vocabulary(),
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=32,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    unet: Any = tiny.unet()
    _save(folder, {"unet": unet, "vae": vae, "text_encoder": CLIPTextModel(text)})
    (folder / "model_index.json").write_text(json.dumps(MODEL_INDEX))
    return folder


def write_xl_base(folder: Path) -> Path:
    """The same as a Stable Diffusion XL, whose second tokenizer pads with another token."""
    torch.manual_seed(0)
    first = tiny.clip(vocab_size=vocabulary(), positions=32)
    second = tiny.clip(vocab_size=vocabulary(), hidden_size=16, projection_dim=12, positions=32)
    _save(folder, {"unet": tiny.unet_xl(), "vae": tiny_vae(), "text_encoder": first, "text_encoder_2": second})
    second_tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", pad_token="a")
    second_tokenizer.save_pretrained(folder / "tokenizer_2")
    parts = {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}
    parts |= {"tokenizer_2": ["transformers", "CLIPTokenizer"]}
    index = {**MODEL_INDEX, **parts, "_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True}
    for name in ("safety_checker", "requires_safety_checker"):
        index.pop(name, None)
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def vocabulary() -> int:
    """The number of tokens of the bundled tokenizer."""
    return len(CLIPTokenizer.from_pretrained(FOLDERS[STABLE_DIFFUSION] / "tokenizer"))


def tiny_vae() -> Any:
    from diffusers import AutoencoderKL

    kind: Any = AutoencoderKL
    return kind(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=RESOLUTION,
    )


def _save(folder: Path, models: dict[str, Any]) -> None:
    from diffusers import DDPMScheduler

    for part, model in models.items():
        model.save_pretrained(folder / part)
    shutil.copytree(FOLDERS[STABLE_DIFFUSION] / "tokenizer", folder / "tokenizer")
    DDPMScheduler(clip_sample=False, steps_offset=1).save_pretrained(folder / "scheduler")
    (folder / "card.json").write_text(json.dumps(CARD))


def write_pictures(folder: Path, count: int = 10) -> Path:
    """Random pictures with captions; of 10, numbers 2 and 7 are the test and number 4 validation."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = []
    for i in range(count):
        Image.fromarray(generator.integers(0, 255, (RESOLUTION, RESOLUTION, 3), np.uint8)).save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": f"a small red star on a sky background {i}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder
