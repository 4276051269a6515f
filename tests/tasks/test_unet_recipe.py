"""The loss that the bundled UNet is pretrained with."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from tasks.bundled.recipes.unet import SCHEDULER, diffusion_loss

GAMMA = 5.0
ALPHAS = DDPMScheduler(**SCHEDULER).alphas_cumprod


class Guess(torch.nn.Module):
    """Predicts a tenth of what it sees, and remembers it."""

    def forward(self, noisy, step, text):
        self.noisy, self.step = noisy, step
        return SimpleNamespace(sample=noisy / 10)


@pytest.fixture
def moments():
    """Of posteriors without noise."""
    torch.manual_seed(0)
    latents = torch.randn(64, 8, 16, 16)
    return torch.stack([latents, torch.zeros_like(latents)], dim=1)


def loss_of(guess, moments, gamma):
    return diffusion_loss(guess, DDPMScheduler(**SCHEDULER), moments, torch.zeros(64, 32, 128), gamma)


def test_without_weights_it_is_the_error_of_the_velocity(moments):
    guess = Guess()
    loss = loss_of(guess, moments, None)
    alpha, sigma = (part.sqrt()[guess.step].view(-1, 1, 1, 1) for part in (ALPHAS, 1 - ALPHAS))
    noise = (guess.noisy - alpha * moments[:, 0]) / sigma
    expected = (guess.noisy / 10 - alpha * noise + sigma * moments[:, 0]).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)


def test_min_snr_weighs_the_error_of_the_picture_itself(moments):
    scheduler: Any = DDPMScheduler(**SCHEDULER)
    guess = Guess()
    loss = loss_of(guess, moments, GAMMA)
    errors = [
        (scheduler.step(noisy / 10, int(step), noisy).pred_original_sample - latent).square().mean()
        for noisy, step, latent in zip(guess.noisy, guess.step, moments[:, 0], strict=True)
    ]
    ratio = (ALPHAS / (1 - ALPHAS))[guess.step]
    torch.testing.assert_close(loss, (torch.stack(errors) * ratio.clamp(max=GAMMA)).mean(), rtol=1e-4, atol=0)
