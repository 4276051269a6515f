"""The diffusion training step: noise drawn from (seed, place), and the loss on the base's own prediction type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.diffusion.model.encoding import Latents

MAXIMAL_SEED = 2**63 - 1


@dataclass(frozen=True)
class NoisyBatch:
    """`noisy` and `target` (batch, channels, height, width), `timestep` (batch,), `weight` (batch,) of each loss.

    `text` is what the trained model takes: text states (batch, positions, width), or token ids (batch, positions)
    where the text encoder trains too. No `weight` means that all count the same.
    """

    noisy: Tensor
    target: Tensor
    timestep: Tensor
    text: Tensor
    weight: Tensor | None = None


@dataclass(frozen=True)
class Noising:
    """Turns encoded items into noisy batches (Ho et al. 2020, algorithm 1; v-prediction: Salimans & Ho 2022)."""

    scheduler: Any  # DDPMScheduler
    latents: Latents
    text: Tensor  # (n, positions, width) or (n, positions), as in NoisyBatch
    empty_text: Tensor  # of one item
    caption_dropout: float = 0.0
    noise_offset: float = 0.0
    snr_gamma: float | None = None

    def __len__(self) -> int:
        return len(self.text)

    def batch(self, index: Tensor, seed: int, first: int) -> NoisyBatch:
        """The items `index`, which stand at the places `first`, `first` + 1, ... of the seed's order.

        All that is random in an item comes from (seed, place), whatever batch it stands in.
        """
        steps = self.scheduler.config.num_train_timesteps
        draws = [_draw(self.latents.shape, steps, generator_of(seed, first + i)) for i in range(len(index))]
        posterior, noise, timestep, chance, views, offset = (torch.stack(drawn) for drawn in zip(*draws, strict=True))
        mean, deviation = self.latents.moments(index, views).unbind(dim=1)
        latents = mean + deviation * posterior
        if self.noise_offset:
            noise = noise + self.noise_offset * offset
        text = self.text[index]
        text[chance < self.caption_dropout] = self.empty_text
        noisy = self.scheduler.add_noise(latents, noise, timestep)
        return NoisyBatch(noisy, self._target(latents, noise, timestep), timestep, text, self._weight(timestep))

    def _target(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        kind = self.scheduler.config.prediction_type
        if kind == "epsilon":
            return noise
        if kind == "v_prediction":
            return self.scheduler.get_velocity(latents, noise, timestep)
        raise ValueError(f"unknown prediction type '{kind}' of the base's scheduler")

    def _weight(self, timestep: Tensor) -> Tensor | None:
        if self.snr_gamma is None:
            return None
        ratio = signal_to_noise(self.scheduler.alphas_cumprod[timestep])
        return min_snr_weight(ratio, self.snr_gamma, self.scheduler.config.prediction_type)


def signal_to_noise(alphas_cumprod: Tensor) -> Tensor:
    """SNR(t) = alpha_t^2 / sigma_t^2 from the product of alphas; 0 at a terminal step of pure noise."""
    return alphas_cumprod / (1 - alphas_cumprod)


def min_snr_weight(ratio: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Min-SNR-gamma's weight of the squared error at each signal-to-noise ratio (Hang et al. 2023, section 3.4).

    min(SNR, gamma) / SNR on the noise, min(SNR, gamma) / (SNR + 1) on the velocity: both are min(SNR, gamma) on the
    picture itself. The first is written so that SNR = 0 has its limit, 1.
    """
    if prediction_type == "epsilon":
        return (gamma / ratio).clamp(max=1)
    return ratio.clamp(max=gamma) / (ratio + 1)


def _draw(shape: tuple[int, int, int], steps: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """One item's draws: of the posterior and the noise, shaped as its latents, a timestep, a chance in [0, 1), the two
    numbers of its view and the noise offset of each channel."""
    posterior, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    timestep = torch.randint(0, steps, (), generator=generator)
    chance, views = torch.rand((), generator=generator), torch.rand(2, generator=generator)
    return posterior, noise, timestep, chance, views, torch.randn((shape[0], 1, 1), generator=generator)


def joined(first: NoisyBatch, second: NoisyBatch, share: float) -> NoisyBatch:
    """Both batches in one, whose loss is the first's plus `share` times the second's."""
    total = len(first.timestep) + len(second.timestep)
    weights = [
        (torch.ones(len(part.timestep)) if part.weight is None else part.weight) * factor * total / len(part.timestep)
        for part, factor in ((first, 1.0), (second, share))
    ]
    pairs = {name: (getattr(first, name), getattr(second, name)) for name in ("noisy", "target", "timestep", "text")}
    return NoisyBatch(**{name: torch.cat(pair) for name, pair in pairs.items()}, weight=torch.cat(weights))


def diffusion_loss(model: Any, batch: NoisyBatch) -> Tensor:
    """(Weighted) mean squared error of the prediction, a scalar. `model` is the UNet, or it with its text encoder."""
    device = model.device
    noisy = batch.noisy.to(device, memory_format=torch.channels_last)
    predicted = model(noisy, batch.timestep.to(device), batch.text.to(device)).sample.float()
    target = batch.target.to(device)
    if batch.weight is None:
        return F.mse_loss(predicted, target)
    each = (predicted - target).square().flatten(1).mean(dim=1)
    return (each * batch.weight.to(device)).mean()


def generator_of(seed: int, place: int) -> torch.Generator:
    """The generator of one item: a stream of its own for every (seed, place)."""
    state = np.random.SeedSequence([seed, place]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % MAXIMAL_SEED)
