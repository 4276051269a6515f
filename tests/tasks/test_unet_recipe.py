"""The loss that the bundled UNet is pretrained with."""

from types import SimpleNamespace

import torch
from diffusers import DDPMScheduler

from tasks.bundled.recipes.unet import SCHEDULER, diffusion_loss

GAMMA = 5.0


class Guess(torch.nn.Module):
    """Predicts a tenth of what it sees, and remembers it."""

    def forward(self, noisy, step, text):
        self.noisy, self.step = noisy, step
        return SimpleNamespace(sample=noisy / 10)


def test_min_snr_weighs_the_error_of_the_picture_itself():
    scheduler, guess = DDPMScheduler(**SCHEDULER), Guess()
    latents = torch.randn(64, 8, 16, 16)
    moments = torch.stack([latents, torch.zeros_like(latents)], dim=1)
    loss = diffusion_loss(guess, scheduler, moments, torch.zeros(64, 32, 128), GAMMA)
    alphas = scheduler.alphas_cumprod[guess.step]
    errors = [
        (scheduler.step(noisy / 10, int(step), noisy).pred_original_sample - latent).square().mean()
        for noisy, step, latent in zip(guess.noisy, guess.step, latents, strict=True)
    ]
    expected = (torch.stack(errors) * (alphas / (1 - alphas)).clamp(max=GAMMA)).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
