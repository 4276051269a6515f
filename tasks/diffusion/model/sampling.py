"""Pictures from prompts through diffusers' own pipeline, with DPM-Solver++ (Lu et al. 2022)."""

import hashlib
from dataclasses import dataclass

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

    def sampled(indices: range) -> Tensor:
        result = pipeline(
            [prompts[i] for i in indices],
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            generator=[torch.Generator().manual_seed(noise_seed(settings.seed, i)) for i in indices],
            height=settings.resolution,
            width=settings.resolution,
            output_type="latent",
        )
        return base.decode_batch(result.images)  # in slices; the pipeline would decode all of them at once

    starts = range(0, len(prompts), settings.batch)
    batches = [range(start, min(start + settings.batch, len(prompts))) for start in starts]
    return torch.cat(map_across_ranks(batches, sampled, title))
