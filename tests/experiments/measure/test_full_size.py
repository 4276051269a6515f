"""Stable Diffusion 2.1 at full size with random weights on the CPU: minutes, and 7 GB of memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler

from experiments.measure.memory.empty_model import make_empty
from tasks.bundled import bundled_bases
from tasks.diffusion.model import bases
from tasks.diffusion.model.sampling import Sampling, sample
from tasks.diffusion.model.stable_diffusion import StableDiffusion
from tests.experiments.measure.test_evaluation_memory import predicted, tracked


def random_base(name: str) -> StableDiffusion:
    """A published base with random weights, the tokenizer of the bundled one, and a scheduler."""
    base = bases.load_meta(name)
    for model in (base.unet, base.vae, base.text_encoder):
        make_empty(model)
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.data.fill_(0.01)
            else:
                tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape))  # CLIP's positions
        model.eval().requires_grad_(False)
    tokenizer = bases.load_tokenizer(bundled_bases.STABLE_DIFFUSION)
    tokenizer.model_max_length = base.text_encoder.config.max_position_embeddings
    return replace(base, tokenizer=tokenizer, scheduler=DDPMScheduler(beta_schedule="scaled_linear"))


@pytest.mark.slow
def test_sampling_of_a_512_pixel_picture():
    from tasks.diffusion.pokemon import Pokemon

    base = random_base("sd-2-1")
    sampling = Sampling(1, 7.5, batch=1, resolution=512)
    parts = (base.unet, base.vae, base.text_encoder)
    measured = tracked(parts, lambda: sample(base, ["a red creature"], sampling))
    task = Pokemon(base="sd-2-1", resolution=512, test_items=1, drift_items=0, validation_items=1)
    expected = max(predicted("full", task, word) for word in ("sampling of 1", "decoding of 1"))
    print(f"predicted {expected / 2**30:.3f} GiB, measured {measured / 2**30:.3f} GiB: {expected / measured - 1:+.2%}")
    assert expected == pytest.approx(measured, rel=0.05)
