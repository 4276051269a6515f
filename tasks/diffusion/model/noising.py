"""The diffusion training loss: noise drawn from (seed, position), and the error of the base's own prediction type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.diffusion.model.latents import Latents
from tasks.diffusion.model.stable_diffusion import Conditions, StableDiffusion

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class NoisyBatch:
    """`noisy` and `target` (batch, channels, height, width), `timestep` (batch,), `weight` (batch,) of each loss.

    `conditions` are what the denoiser takes beside them: text states (batch, positions, width), or token ids
    (batch, positions) if the text encoder trains too. Without `weight` all losses count the same.
    """

    noisy: Tensor
    target: Tensor
    timestep: Tensor
    conditions: Conditions
    weight: Tensor | None = None


@dataclass(frozen=True)
class Noising:
    """Turns encoded items into noisy batches (Ho et al. 2020, algorithm 1; v-prediction: Salimans & Ho 2022)."""

    scheduler: Any  # DDPMScheduler
    latents: Latents
    conditions: Conditions  # of the n items
    empty: Conditions  # of the empty caption, without the first dimension
    view_conditions: Callable[[Tensor], Conditions] = lambda windows: {}  # of each view's window, (batch, 6)
    caption_dropout: float = 0.0
    noise_offset: float = 0.0
    snr_gamma: float | None = None

    def __len__(self) -> int:
        return len(next(iter(self.conditions.values())))

    def batch(self, index: Tensor, seed: int, first: int) -> NoisyBatch:
        """The items `index`, at the positions `first`, `first` + 1, ... of the seed's order."""
        return self.batch_at(index, seed, range(first, first + len(index)))

    def batch_at(self, index: Tensor, seed: int, positions: Sequence[int]) -> NoisyBatch:
        """The items `index`, at these positions of the seed's order.

        Everything random about an item comes from (seed, position), whatever batch it is in.
        """
        steps = self.scheduler.config.num_train_timesteps
        draws = [_draw(self.latents.shape, steps, generator_of(seed, position)) for position in positions]
        posterior, noise, timestep, chance, views, offset = (torch.stack(drawn) for drawn in zip(*draws, strict=True))
        mean, deviation = self.latents.moments(index, views).unbind(dim=1)
        latents = mean + deviation * posterior
        if self.noise_offset:
            noise = noise + self.noise_offset * offset
        conditions = self._conditions(index, chance < self.caption_dropout)
        conditions |= self.view_conditions(self.latents.windows(index, views))
        noisy = self.scheduler.add_noise(latents, noise, timestep)
        return NoisyBatch(noisy, self._target(latents, noise, timestep), timestep, conditions, self._weight(timestep))

    def _conditions(self, index: Tensor, dropped: Tensor) -> Conditions:
        """Those of the items `index`; the empty caption's for items that are `dropped`."""
        chosen = {name: tensor[index] for name, tensor in self.conditions.items()}
        for name, tensor in chosen.items():
            tensor[dropped] = self.empty[name]
        return chosen

    def _target(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        kind = self.scheduler.config.prediction_type
        if kind == "epsilon":
            return noise
        if kind == "v_prediction":
            return self.scheduler.get_velocity(latents, noise, timestep)
        raise ValueError(f"the base's scheduler has the prediction type '{kind}'; expected epsilon or v_prediction")

    def _weight(self, timestep: Tensor) -> Tensor | None:
        if self.snr_gamma is None:
            return None
        ratio = signal_to_noise(self.scheduler.alphas_cumprod[timestep])
        return min_snr_weight(ratio, self.snr_gamma, self.scheduler.config.prediction_type)


def signal_to_noise(alphas_cumprod: Tensor) -> Tensor:
    """SNR(t) = alpha_t^2 / sigma_t^2 from the product of alphas; 0 at a terminal timestep of pure noise."""
    return alphas_cumprod / (1 - alphas_cumprod)


def min_snr_weight(ratio: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Min-SNR-gamma's weight of the squared error at each signal-to-noise ratio (Hang et al. 2023, section 3.4).

    min(SNR, gamma) / SNR for the noise and min(SNR, gamma) / (SNR + 1) for the velocity: both are min(SNR, gamma)
    for the picture itself. The first is written so that SNR = 0 gives its limit, 1.
    """
    if prediction_type == "epsilon":
        return (gamma / ratio).clamp(max=1)
    return ratio.clamp(max=gamma) / (ratio + 1)


def _draw(shape: tuple[int, int, int], steps: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """All random numbers of one item: the posterior's and the noise, both shaped as its latents, a timestep, a number
    in [0, 1) for caption dropout, two for the crop and flip, and the noise offset of each channel."""
    posterior, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    timestep = torch.randint(0, steps, (), generator=generator)
    chance, views = torch.rand((), generator=generator), torch.rand(2, generator=generator)
    return posterior, noise, timestep, chance, views, torch.randn((shape[0], 1, 1), generator=generator)


def joined(first: NoisyBatch, second: NoisyBatch, share: float) -> NoisyBatch:
    """Both batches as one, whose loss is the first's plus `share` times the second's."""
    total = len(first.timestep) + len(second.timestep)
    weights = [
        (torch.ones(len(part.timestep)) if part.weight is None else part.weight) * factor * total / len(part.timestep)
        for part, factor in ((first, 1.0), (second, share))
    ]
    return NoisyBatch(
        torch.cat([first.noisy, second.noisy]),
        torch.cat([first.target, second.target]),
        torch.cat([first.timestep, second.timestep]),
        {name: torch.cat([tensor, second.conditions[name]]) for name, tensor in first.conditions.items()},
        torch.cat(weights),
    )


def diffusion_loss(base: StableDiffusion, batch: NoisyBatch) -> Tensor:
    """(Weighted) mean squared error of the prediction, a scalar."""
    return weighted_error(base.predict_noise(batch.noisy, batch.timestep, batch.conditions), batch.target, batch.weight)


def weighted_error(predicted: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """Mean squared error over items, of which each has a weight."""
    if weight is None:
        return F.mse_loss(predicted, target.to(predicted.device))
    errors = (predicted - target.to(predicted.device)).square().flatten(1).mean(dim=1)
    return (errors * weight.to(predicted.device)).mean()


def generator_of(seed: int, position: int) -> torch.Generator:
    """The random generator of one item: an independent stream for every (seed, position)."""
    state = np.random.SeedSequence([seed, position]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % MAX_SEED)
