"""What the frozen parts give: pictures to latents, captions to text states. Computed once, cached by content."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tasks.processes import shared_out

PIXELS = 128 * 32 * 32  # that the VAE takes at once: 128 small pictures, or one of 512 pixels a side


@torch.no_grad()
def encode_pictures(vae: Any, pixels: Tensor) -> Tensor:
    """uint8 (n, 3, height, width) to the posterior's scaled moments (n, 2, channels, h, w): mean and deviation."""

    def encoded(part: Tensor) -> Tensor:
        posterior = vae.encode(part.to(vae.device).float() / 127.5 - 1).latent_dist
        return torch.stack([posterior.mean, posterior.std], dim=1).cpu()

    return torch.cat(shared_out(pixels.split(at_once(pixels)), encoded, "encoding")) * vae.config.scaling_factor


@torch.no_grad()
def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Scaled latents (n, channels, h, w) to pictures uint8 (n, 3, height, width)."""
    side = 2 ** (len(vae.config.block_out_channels) - 1)

    def decoded(part: Tensor) -> Tensor:
        pictures = vae.decode(part.to(vae.device) / vae.config.scaling_factor).sample
        return ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()

    return torch.cat(shared_out(latents.split(at_once(latents, side)), decoded, "decoding"))


def at_once(pictures: Tensor, side: int = 1) -> int:
    """How many of the pictures (or latents, whose positions stand for `side` pixels a side) are taken at once."""
    height, width = pictures.shape[-2:]
    return max(1, PIXELS // (height * width * side**2))


@torch.no_grad()
def encode_captions(text_encoder: Any, tokenizer: Any, captions: list[str], batch: int = 256) -> Tensor:
    """Text states (n, positions, width); equal captions are computed once."""
    distinct = list(dict.fromkeys(captions))
    states = []
    for start in range(0, len(distinct), batch):
        tokens = tokenizer(
            distinct[start : start + batch],
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        )
        states.append(text_encoder(tokens.input_ids.to(text_encoder.device)).last_hidden_state.cpu())
    place = {caption: i for i, caption in enumerate(distinct)}
    return torch.cat(states)[[place[caption] for caption in captions]]
