"""A Stable Diffusion without data: pictures from prompts, and the whole model as a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tasks.base import LoadedBase
from tasks.cache import file_digest
from tasks.diffusion.model import bases
from tasks.diffusion.model.backbone import StableDiffusionBackbone
from tasks.diffusion.model.sampling import Sampling, pipeline_of, sample

TOGETHER = 8  # pictures: what the memory of a card takes at 512 pixels a side

if TYPE_CHECKING:
    from tasks.diffusion.settings import DiffusionSettings


class LoadedStableDiffusion(LoadedBase):
    """The base that a recipe (filled) names, with its text encoder in the backbone where that trains too."""

    def __init__(self, recipe: DiffusionSettings, device: torch.device):
        self.base = bases.load(recipe.base, device, recipe.allow_pickle)
        self.base.unet.to(memory_format=torch.channels_last)
        encoder = self.base.text_encoder if recipe.train_text_encoder else None
        self.backbone = StableDiffusionBackbone(self.base.unet, tuple(self.base.card["targets"]), encoder)
        self.folder = bases.folder_of(recipe.base, recipe.allow_pickle)
        weights = [file for file in self.folder.rglob("*") if file.suffix in (".safetensors", ".bin")]
        self.revision = file_digest(*sorted(weights))
        self.resolution = self.base.latent_multiple(recipe.resolution or self.base.resolution)
        self.sampling = self.base.card["sampling"]

    def sample(self, prompts: Sequence[str], seed: int, num_inference_steps: int, guidance_scale: float) -> Tensor:
        self.backbone.model.eval()
        settings = Sampling(num_inference_steps, guidance_scale, seed, TOGETHER, self.resolution)
        return sample(self.base, list(prompts), settings)

    def save(self, folder: Path) -> None:
        """A StableDiffusionPipeline's folder, and the base's card."""
        pipeline = pipeline_of(self.base)
        pipeline.register_modules(scheduler=self.base.scheduler)
        pipeline.save_pretrained(folder)
        (folder / "card.json").write_text(json.dumps(self.base.card, indent=2) + "\n")
