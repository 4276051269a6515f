"""A Stable Diffusion folder of random weights, and an image folder, both small enough for second-long tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

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
    from diffusers import AutoencoderKL, DDPMScheduler
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    vae_class: Any = AutoencoderKL
    vae = vae_class(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=RESOLUTION,
    )
    text = CLIPTextConfig(
        vocab_size=434,
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
    for part, model in {"unet": unet, "vae": vae, "text_encoder": CLIPTextModel(text)}.items():
        model.save_pretrained(folder / part)
    shutil.copytree(FOLDERS[STABLE_DIFFUSION] / "tokenizer", folder / "tokenizer")
    DDPMScheduler(clip_sample=False, steps_offset=1).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(MODEL_INDEX))
    (folder / "card.json").write_text(json.dumps(CARD))
    return folder


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
