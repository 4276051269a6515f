"""What the VAE's decoder is trained on: latents as a UNet leaves them."""

from types import SimpleNamespace

import pytest
import torch

from tasks.bundled.bundled_bases import FOLDERS, STABLE_DIFFUSION
from tasks.bundled.recipes.vae_decoder import LAST, LastSteps


class Oracle:
    """Predicts the velocity that leads to `latents`, or one that leads to `error` beside them."""

    def __init__(self, latents, solver, error=0.0):
        self.target, self.alphas = latents + error, solver.alphas_cumprod

    def __call__(self, noisy, step, text):
        alpha, sigma = self.alphas[step].sqrt(), (1 - self.alphas[step]).sqrt()
        return SimpleNamespace(sample=(alpha * noisy - self.target) / sigma)


@pytest.fixture(scope="module")
def sampler():
    return LastSteps(FOLDERS[STABLE_DIFFUSION])


@pytest.mark.parametrize("count", range(1, LAST + 1))
def test_a_unet_without_errors_leaves_the_latents_as_they_were(sampler, count):
    torch.manual_seed(0)
    latents = torch.randn(2, 8, 16, 16)
    sampler.unet = Oracle(latents, sampler.solver)
    assert torch.allclose(sampler(latents, count), latents, atol=1e-4)


@pytest.mark.parametrize("count", range(1, LAST + 1))
def test_a_unets_errors_are_in_the_latents(sampler, count):
    torch.manual_seed(0)
    latents = torch.randn(2, 8, 16, 16)
    sampler.unet = Oracle(latents, sampler.solver, error=0.3)
    assert torch.allclose(sampler(latents, count), latents + 0.3, atol=1e-4)
