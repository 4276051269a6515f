"""What the frozen parts give: pictures to latents, captions to text states. Computed once, cached by content."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from tasks.cache import cached, tensor_digest
from tasks.diffusion.data.augmentation import Augmentation
from tasks.diffusion.data.splits import Pictures
from tasks.diffusion.model.bases import StableDiffusion
from tasks.distributed import map_across_ranks

PRECISION = "fp32"  # of the frozen parts
PIXELS = 128 * 32 * 32  # that the VAE takes at once: 128 small pictures, or one of 512 pixels a side


class Latents(ABC):
    """The training pictures as the VAE sees them."""

    shape: tuple[int, int, int]  # of one picture's latents: channels, height, width

    @abstractmethod
    def moments(self, index: Tensor, views: Tensor) -> Tensor:
        """Scaled means and deviations (batch, 2, channels, h, w) of the pictures of `index`.

        `views`, (batch, 2) uniform numbers in [0, 1), choose the variant of each: crop and flip.
        """


class KeptLatents(Latents):
    """Every variant encoded: `variants` of shape (n, variants, 2, channels, h, w)."""

    def __init__(self, variants: Tensor):
        self.variants = variants
        channels, height, width = variants.shape[3:]
        self.shape = (channels, height, width)

    def moments(self, index: Tensor, views: Tensor) -> Tensor:
        return self.variants[index, (views[:, 0] * self.variants.shape[1]).long()]


class FreshLatents(Latents):
    """Pictures cropped, mirrored and encoded anew at every draw: nothing kept, the VAE stays in memory."""

    def __init__(self, base: StableDiffusion, pictures: Pictures, augmentation: Augmentation):
        self.base, self.pictures, self.augmentation = base, pictures, augmentation
        side = pictures.pixels.shape[-1] // base.latent_factor
        self.shape = (base.vae.config.latent_channels, side, side)

    def moments(self, index: Tensor, views: Tensor) -> Tensor:
        pixels = self.augmentation.drawn(self.pictures, index, views[:, 0], views[:, 1] < 0.5)
        parts = [posterior_of(self.base.vae, part) for part in pixels.split(at_once(pixels))]
        return torch.cat(parts) * self.base.vae.config.scaling_factor


def kept_latents(base: StableDiffusion, vae_digest: str, pictures: Pictures, augmentation: Augmentation) -> KeptLatents:
    """All variants encoded, each cached by its pixels, the VAE's content and its precision."""
    found = []
    for number in range(augmentation.variants(pictures)):
        pixels = augmentation.variant(pictures, number)
        key = {"vae": vae_digest, "pixels": tensor_digest(pixels), "precision": PRECISION}
        found.append(
            cached("latents", key, lambda pixels=pixels: ({"moments": encode_pictures(base.vae, pixels)}, None))
        )
    return KeptLatents(torch.stack([tensors["moments"] for tensors, _ in found], dim=1))


def kept_text(base: StableDiffusion, encoder_digest: str, captions: list[str]) -> Tensor:
    """Text states (n, positions, width), cached by the captions, the text encoder's and tokenizer's content."""
    key = {"text_encoder": encoder_digest, "captions": captions, "precision": PRECISION}

    def compute() -> tuple[dict[str, Tensor], None]:
        return {"states": encode_captions(base.text_encoder, base.tokenizer, captions)}, None

    return cached("text-states", key, compute)[0]["states"]


@torch.no_grad()
def encode_pictures(vae: Any, pixels: Tensor) -> Tensor:
    """uint8 (n, 3, height, width) to the posterior's scaled moments (n, 2, channels, h, w): mean and deviation."""
    parts = map_across_ranks(pixels.split(at_once(pixels)), lambda part: posterior_of(vae, part), "encoding")
    return torch.cat(parts) * vae.config.scaling_factor


@torch.no_grad()
def posterior_of(vae: Any, pixels: Tensor) -> Tensor:
    """uint8 (n, 3, height, width) to the posterior's mean and deviation (n, 2, channels, h, w), not scaled."""
    posterior = vae.encode(pixels.to(vae.device).float() / 127.5 - 1).latent_dist
    return torch.stack([posterior.mean, posterior.std], dim=1).cpu()


@torch.no_grad()
def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Scaled latents (n, channels, h, w) to pictures uint8 (n, 3, height, width)."""
    side = 2 ** (len(vae.config.block_out_channels) - 1)

    def decoded(part: Tensor) -> Tensor:
        pictures = vae.decode(part.to(vae.device) / vae.config.scaling_factor).sample
        return ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()

    return torch.cat(map_across_ranks(latents.split(at_once(latents, side)), decoded, "decoding"))


def at_once(pictures: Tensor, side: int = 1) -> int:
    """How many of the pictures (or latents, whose positions stand for `side` pixels a side) are taken at once."""
    height, width = pictures.shape[-2:]
    return max(1, PIXELS // (height * width * side**2))


def tokens_of(tokenizer: Any, captions: list[str]) -> Tensor:
    """Token ids (n, positions), padded and cut to the text encoder's length."""
    found = tokenizer(
        captions, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
    )
    return found.input_ids


@torch.no_grad()
def encode_captions(text_encoder: Any, tokenizer: Any, captions: list[str], batch: int = 256) -> Tensor:
    """Text states (n, positions, width); equal captions are computed once."""
    distinct = list(dict.fromkeys(captions))
    states = []
    for start in range(0, len(distinct), batch):
        tokens = tokens_of(tokenizer, distinct[start : start + batch])
        states.append(text_encoder(tokens.to(text_encoder.device)).last_hidden_state.cpu())
    place = {caption: i for i, caption in enumerate(distinct)}
    return torch.cat(states)[[place[caption] for caption in captions]]
