"""A Stable Diffusion without data: pictures from prompts, and the whole model as a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tasks.base import OpenedBase
from tasks.cache import file_digest
from tasks.diffusion import bases
from tasks.diffusion.backbone import StableDiffusionBackbone
from tasks.diffusion.sampling import Sampling, pipeline_of, sample


class OpenedStableDiffusion(OpenedBase):
    """A base by name or folder, on a device."""

    def __init__(self, base: str, device: torch.device):
        self.base = bases.load(base, device)
        self.base.unet.to(memory_format=torch.channels_last)
        self.backbone = StableDiffusionBackbone(self.base.unet, tuple(self.base.card["targets"]))
        self.revision = file_digest(*sorted(bases.folder_of(base).rglob("*.safetensors")))
        self.sampling = self.base.card["sampling"]

    def sample(self, prompts: Sequence[str], seed: int, steps: int, guidance: float) -> Tensor:
        self.backbone.model.eval()
        return sample(self.base, list(prompts), Sampling(steps, guidance, seed))

    def save(self, folder: Path) -> None:
        """A StableDiffusionPipeline's folder, and the base's card."""
        pipeline = pipeline_of(self.base)
        pipeline.register_modules(scheduler=self.base.scheduler)
        pipeline.save_pretrained(folder)
        (folder / "card.json").write_text(json.dumps(self.base.card, indent=2) + "\n")
