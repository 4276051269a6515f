"""The frozen parts of a Stable Diffusion: pictures to latents and back, captions to text states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adapters.backbone import without_autocast
from tasks.distributed import map_across_ranks

PIXELS = 32 * 64 * 64  # that the VAE takes at once: 32 pictures of 64 pixels a side; at least one picture


def latent_factor(vae: Any) -> int:
    """Width and height in pixels of one latent position."""
    return _latent_factor(vae.config)


def _latent_factor(config: Mapping[str, Any]) -> int:
    return 2 ** (len(config["block_out_channels"]) - 1)


def trained_resolution(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> int:
    """The width and height in pixels that a UNet was trained on, from both configurations."""
    return unet["sample_size"] * _latent_factor(vae)


@torch.no_grad()
def encode_pictures(vae: Any, pixels: Tensor) -> Tensor:
    """uint8 (n, 3, height, width) to the posterior's scaled moments (n, 2, channels, h, w): mean and deviation."""
    parts = map_across_ranks(pixels.split(batch_size(pixels)), lambda part: _posterior(vae, part), "encoding")
    return torch.cat(parts) * vae.config.scaling_factor


@torch.no_grad()
def encode_posterior(vae: Any, pixels: Tensor) -> Tensor:
    """The same as `encode_pictures`, in this process alone."""
    parts = [_posterior(vae, part) for part in pixels.split(batch_size(pixels))]
    return torch.cat(parts) * vae.config.scaling_factor


def _posterior(vae: Any, pixels: Tensor) -> Tensor:
    with without_autocast(vae.device):  # SDXL's VAE leaves the range of fp16
        posterior = vae.encode(pixels.to(vae.device).float() / 127.5 - 1).latent_dist
    return torch.stack([posterior.mean, posterior.std], dim=1).cpu()


@torch.no_grad()
def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Scaled latents (n, channels, h, w) to pictures uint8 (n, 3, height, width)."""
    return torch.cat(map_across_ranks(slices(vae, latents), lambda part: decoded(vae, part), "decoding"))


@torch.no_grad()
def decode_slices(vae: Any, latents: Tensor) -> Tensor:
    """The same as `decode_latents`, in this process alone."""
    return torch.cat([decoded(vae, part) for part in slices(vae, latents)])


def slices(vae: Any, latents: Tensor) -> Sequence[Tensor]:
    """Latents in parts that the VAE decodes at once, so that decoding takes less memory than sampling."""
    return latents.split(batch_size(latents, latent_factor(vae)))


def decoded(vae: Any, part: Tensor) -> Tensor:
    """One part of scaled latents as pictures uint8 in CPU memory."""
    return decoded_on_device(vae, part).cpu()


def decoded_on_device(vae: Any, part: Tensor) -> Tensor:
    """Scaled latents (n, channels, h, w) as pictures uint8 (n, 3, height, width), all at once."""
    with without_autocast(vae.device):  # SDXL's VAE leaves the range of fp16
        pictures = vae.decode(part.to(vae.device, torch.float32) / vae.config.scaling_factor).sample
    return ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def batch_size(pictures: Tensor, factor: int = 1) -> int:
    """How many of the pictures fit in `PIXELS`; `factor` is the pixels per position of latents."""
    height, width = pictures.shape[-2:]
    return max(1, PIXELS // (height * width * factor**2))


def tokenize(tokenizer: Any, captions: list[str]) -> Tensor:
    """Token ids (n, positions), padded and truncated to the text encoder's length."""
    tokens = tokenizer(
        captions, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
    )
    return tokens.input_ids


def caption_lengths(tokenizer: Any, captions: Sequence[str]) -> list[int]:
    """Tokens of each caption with start and end."""
    return [len(ids) for ids in tokenizer(list(captions), verbose=False).input_ids] if captions else []


def cut_captions(tokenizer: Any, captions: Sequence[str]) -> list[str]:
    """The captions of which `tokenize` cuts the end."""
    lengths = caption_lengths(tokenizer, captions)
    return [text for text, length in zip(captions, lengths, strict=True) if length > tokenizer.model_max_length]


@torch.no_grad()
def encode_captions(text_encoder: Any, tokenizer: Any, captions: list[str], batch: int = 256) -> Tensor:
    """Text states (n, positions, width); equal captions are computed once."""

    def encode(some: list[str]) -> dict[str, Tensor]:
        states = text_encoder(tokenize(tokenizer, some).to(text_encoder.device)).last_hidden_state
        return {"states": states.float().cpu()}

    return encode_distinct(captions, encode, batch)["states"]


def encode_distinct(
    captions: list[str], encode: Callable[[list[str]], dict[str, Tensor]], batch: int = 256
) -> dict[str, Tensor]:
    """`encode` of all captions, a row each; equal captions are computed once."""
    distinct = list(dict.fromkeys(captions))
    parts = [encode(distinct[start : start + batch]) for start in range(0, len(distinct), batch)]
    row = {caption: i for i, caption in enumerate(distinct)}
    order = [row[caption] for caption in captions]
    return {name: torch.cat([part[name] for part in parts])[order] for name in parts[0]}
