"""What the frozen parts give: pictures to latents, captions to text states. Computed once, cached by content."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def encode_pictures(vae: Any, pixels: Tensor, batch: int = 128) -> Tensor:
    """uint8 (n, 3, height, width) to the posterior's scaled moments (n, 2, channels, h, w): mean and deviation."""
    moments = []
    for part in pixels.split(batch):
        posterior = vae.encode(part.to(vae.device).float() / 127.5 - 1).latent_dist
        moments.append(torch.stack([posterior.mean, posterior.std], dim=1).cpu())
    return torch.cat(moments) * vae.config.scaling_factor


@torch.no_grad()
def decode_latents(vae: Any, latents: Tensor, batch: int = 128) -> Tensor:
    """Scaled latents (n, channels, h, w) to pictures uint8 (n, 3, height, width)."""
    parts = []
    for part in latents.split(batch):
        decoded = vae.decode(part.to(vae.device) / vae.config.scaling_factor).sample
        parts.append(((decoded.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu())
    return torch.cat(parts)


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
