"""Pictures from prompts through diffusers' own StableDiffusionPipeline, with DPM-Solver++ (Lu et al. 2022)."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasks.diffusion.model.bases import StableDiffusion
from tasks.distributed import map_across_ranks


@dataclass(frozen=True)
class Sampling:
    """How pictures are sampled; the same for all runs that are compared."""

    num_inference_steps: int
    """Solver steps."""
    guidance_scale: float
    """Classifier-free guidance scale; 1 is off."""
    seed: int = 0
    """Of the start noise: picture i starts from noise (seed, i)."""
    batch: int = 100
    """Pictures sampled together; several processes take a batch each."""
    resolution: int | None = None
    """Pixels a side. Default: the base's own."""


def noise_seed(seed: int, index: int) -> int:
    """The generator seed of picture `index` of the stream `seed`."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def pipeline_of(base: StableDiffusion) -> Any:
    """A StableDiffusionPipeline over the loaded parts, with the solver that this project samples with."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    kind: Any = StableDiffusionPipeline  # its signature forbids the missing checker that its code allows
    pipeline = kind(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=base.unet,
        scheduler=DPMSolverMultistepScheduler.from_config(base.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def sample(base: StableDiffusion, prompts: list[str], settings: Sampling, title: str = "sampling") -> Tensor:
    """One picture a prompt: uint8 (n, 3, height, width). Picture i depends on its prompt, seed and i alone."""
    pipeline = pipeline_of(base)

    def sampled(places: range) -> Tensor:
        result = pipeline(
            [prompts[place] for place in places],
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            generator=[torch.Generator().manual_seed(noise_seed(settings.seed, place)) for place in places],
            height=settings.resolution,
            width=settings.resolution,
            output_type="pt",
        )
        return (result.images * 255).round().to(torch.uint8).cpu()

    starts = range(0, len(prompts), settings.batch)
    batches = [range(start, min(start + settings.batch, len(prompts))) for start in starts]
    return torch.cat(map_across_ranks(batches, sampled, title))
