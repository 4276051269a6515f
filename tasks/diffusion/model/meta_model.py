"""A diffusion task's shapes: the parts made from their configurations alone, and noisy batches of real shapes."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from tasks.base import MetaModel
from tasks.diffusion.model import bases
from tasks.diffusion.model.backbone import StableDiffusionBackbone
from tasks.diffusion.model.noising import NoisyBatch, diffusion_loss
from tasks.diffusion.settings import DiffusionSettings
from tasks.errors import TaskError
from tasks.pretrained.loading import quiet
from tasks.pretrained.published.shapes import STABLE_DIFFUSION, published

MODELS = ("unet", "vae", "text_encoder")


class DiffusionMetaModel(MetaModel):
    """Latents and text states are kept on the CPU; a frozen part stays on the device where each step encodes anew."""

    notes = ("latents and text states are computed before training and kept in the CPU's memory, where they can be",)

    def __init__(self, task: DiffusionSettings):
        unet, vae, text_encoder = models_of(task.base)
        self.base = bases.StableDiffusion(unet, vae, text_encoder, None, None, bases.card_of(task.base), task.base)
        self.task = task
        encoder = text_encoder if task.train_text_encoder else None
        self.backbone = StableDiffusionBackbone(unet, tuple(self.base.card["targets"]), encoder)
        self.frozen = {"vae": vae} if task.encode == "on-the-fly" else {}
        self.resolution = self.base.latent_multiple(task.resolution or self.base.resolution)
        self.facts = {"base": task.base, "resolution": self.resolution}

    def batch(self, size: int, device: torch.device) -> NoisyBatch:
        side = self.resolution // self.base.latent_factor
        latents = torch.zeros(size, self.base.unet.config.in_channels, side, side, device=device)
        steps = torch.zeros(size, dtype=torch.long, device=device)
        return NoisyBatch(latents, latents.clone(), steps, self._text(size, device))

    def _text(self, size: int, device: torch.device) -> Tensor:
        text = self.base.text_encoder.config
        if self.task.train_text_encoder:
            return torch.zeros(size, text.max_position_embeddings, dtype=torch.long, device=device)
        return torch.zeros(size, text.max_position_embeddings, text.hidden_size, device=device)

    def loss(self, batch: NoisyBatch) -> Tensor:
        return diffusion_loss(self.backbone.model, batch)


def models_of(base: str) -> list[Any]:
    """UNet (channels last, as in training), VAE and text encoder on the meta device, frozen."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    quiet(UNet2DConditionModel)
    quiet(CLIPTextModel)
    values = configurations(base)
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(values["unet"])
        vae: Any = AutoencoderKL.from_config(values["vae"])
        text_encoder = CLIPTextModel(CLIPTextConfig(**values["text_encoder"]))
    unet.to(memory_format=torch.channels_last)
    return [model.requires_grad_(False) for model in (unet, vae, text_encoder)]


def configurations(base: str) -> dict[str, dict[str, Any]]:
    """The models' configurations by part: of a published base by name, or of a folder in diffusers' layout."""
    found = published(base, STABLE_DIFFUSION)
    if found is not None:
        return found
    folder = bases.folder_of(base, weights=False)
    missing = [part for part in MODELS if not (folder / part / "config.json").is_file()]
    if missing:
        raise TaskError(f"--task.base '{base}': the folder {folder} lacks {missing[0]}/config.json")
    return {part: json.loads((folder / part / "config.json").read_text()) for part in MODELS}
