"""A diffusion task's shapes: the models from their configurations alone, and noisy batches of real shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from tasks.base import MetaModel
from tasks.diffusion.model import bases
from tasks.diffusion.model.noising import NoisyBatch, diffusion_loss


class DiffusionMetaModel(MetaModel):
    """Latents and text states stay in CPU memory; a frozen part is on the device only if every batch needs it."""

    notes = ("latents and text states are computed before training and stay in CPU memory where possible",)

    def __init__(
        self,
        base: str,
        resolution: int | None = None,
        encode_on_the_fly: bool = False,
        train_text_encoder: bool = False,
    ):
        self.base = bases.load_meta(base, train_text_encoder)
        self.backbone = self.base.backbone
        self.frozen = {"vae": self.base.vae} if encode_on_the_fly else {}
        self.resolution = self.base.check_resolution(resolution or self.base.resolution)
        self.facts = {"base": base, "resolution": self.resolution}

    def batch(self, size: int, device: torch.device) -> NoisyBatch:
        latents = torch.zeros(size, *self.base.latent_shape(self.resolution), device=device)
        timestep = torch.zeros(size, dtype=torch.long, device=device)
        return NoisyBatch(latents, latents.clone(), timestep, self.base.zero_conditions(size, device))

    def loss(self, batch: NoisyBatch) -> Tensor:
        return diffusion_loss(self.base, batch)
