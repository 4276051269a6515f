"""A Stable Diffusion without data: samples pictures from prompts and saves the whole model as a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.base import LoadedBase
from tasks.bundled.bundled_bases import CARD
from tasks.diffusion.model import bases
from tasks.diffusion.model.sampling import Sampling, pictures_at_once, sample
from tasks.pretrained.precision import BasePrecision
from tasks.pretrained.revision import weights_digest

BATCH = 8  # pictures sampled together, at most


class LoadedStableDiffusion(LoadedBase):
    """The base that `--task.base` names, at a resolution (default: its own)."""

    def __init__(
        self,
        base: str,
        device: torch.device,
        resolution: int | None = None,
        allow_pickle: bool = False,
        train_text_encoder: bool = False,
        precision: BasePrecision | None = None,
    ):
        self.base = bases.load(base, device, allow_pickle, train_text_encoder, precision)
        self.backbone = self.base.backbone
        self.folder = bases.folder_of(base, allow_pickle)
        self.revision = bases.revision_of(base, allow_pickle)
        self.resolution = self.base.check_resolution(resolution or self.base.resolution)
        self.sampling = self.base.card["sampling"]

    def is_revision(self, recorded: str) -> bool:
        return super().is_revision(recorded) or recorded == weights_digest(self.folder, recursive=True)

    def sample(self, prompts: Sequence[str], seed: int, num_inference_steps: int, guidance_scale: float) -> Tensor:
        self.backbone.model.eval()
        batch = pictures_at_once(BATCH, self.resolution)
        settings = Sampling(num_inference_steps, guidance_scale, seed, batch, self.resolution)
        return sample(self.base, list(prompts), settings)

    def pipeline(self) -> Any:
        return self.base.pipeline()

    def save(self, folder: Path) -> None:
        """Write the pipeline's folder in diffusers' layout, and the base's card."""
        pipeline = self.base.pipeline()
        pipeline.register_modules(scheduler=self.base.scheduler)
        pipeline.save_pretrained(folder)
        (folder / CARD).write_text(json.dumps(self.base.card, indent=2) + "\n")
