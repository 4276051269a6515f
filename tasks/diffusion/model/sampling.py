"""Pictures from prompts through diffusers' own pipeline, with DPM-Solver++ (Lu et al. 2022)."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasks.diffusion.model.stable_diffusion import StableDiffusion
from tasks.distributed import map_across_ranks


@dataclass(frozen=True)
class Sampling:
    """How pictures are sampled; the same for all runs that are compared."""

    num_inference_steps: int
    """Solver steps."""
    guidance_scale: float
    """Classifier-free guidance scale; 1 turns guidance off."""
    seed: int = 0
    """Picture i starts from the noise of (seed, i)."""
    batch: int = 100
    """Pictures sampled together; several processes take one batch each."""
    resolution: int | None = None
    """Width and height in pixels. Default: the base's own."""


PIXELS = 2**20  # that the UNet takes at once: four pictures of 512 pixels a side, each twice for guidance


def pictures_at_once(most: int, resolution: int) -> int:
    """How many pictures of this width and height the UNet takes at once, at most `most`."""
    return max(1, min(most, PIXELS // resolution**2))


def noise_seed(seed: int, index: int) -> int:
    """The generator's seed for picture `index` of the stream `seed`."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


@torch.no_grad()
def sample(base: StableDiffusion, prompts: list[str], settings: Sampling, title: str = "sampling") -> Tensor:
    """One picture per prompt, uint8 (n, 3, height, width). Picture i depends on its prompt, the seed and i alone."""
    pipeline = base.pipeline()
    shape = base.latent_shape(settings.resolution or base.resolution)

    def sampled(indices: range) -> Tensor:
        with base.backbone.computing(), outputs_in_fp32(base.unet):
            result = pipeline(
                [prompts[i] for i in indices],
                num_inference_steps=settings.num_inference_steps,
                guidance_scale=settings.guidance_scale,
                latents=torch.cat([initial_noise(shape, noise_seed(settings.seed, i)) for i in indices]),
                height=settings.resolution,
                width=settings.resolution,
                output_type="latent",
            )
        return base.decode_batch(result.images)  # in slices; the pipeline would decode all of them at once

    starts = range(0, len(prompts), settings.batch)
    batches = [range(start, min(start + settings.batch, len(prompts))) for start in starts]
    return torch.cat(map_across_ranks(batches, sampled, title))


def initial_noise(shape: tuple[int, int, int], seed: int) -> Tensor:
    """One picture's noise (1, channels, h, w) in fp32: the pipeline would draw other numbers for weights of 16 bits."""
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


@contextmanager
def outputs_in_fp32(unet: Any) -> Iterator[None]:
    """A context in which the UNet's predictions are in fp32, so that the solver's latents stay in fp32 too."""

    def as_fp32(module: Any, args: Any, output: Any) -> Any:
        return tuple(part.float() for part in output) if isinstance(output, tuple) else output

    hook = unet.register_forward_hook(as_fp32)
    try:
        yield
    finally:
        hook.remove()
