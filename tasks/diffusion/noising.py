"""The diffusion training step: noise drawn from (seed, place), and the loss on the base's own prediction type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MAXIMAL_SEED = 2**63 - 1


@dataclass(frozen=True)
class NoisyBatch:
    """`noisy` and `target` (batch, channels, height, width), `timestep` (batch,), `text` (batch, positions, width)."""

    noisy: Tensor
    target: Tensor
    timestep: Tensor
    text: Tensor


@dataclass(frozen=True)
class Noising:
    """Turns encoded items into noisy batches (Ho et al. 2020, algorithm 1; v-prediction: Salimans & Ho 2022)."""

    scheduler: Any  # DDPMScheduler
    moments: Tensor  # (n, 2, channels, height, width)
    text: Tensor  # (n, positions, width)
    empty_text: Tensor  # (positions, width)
    caption_dropout: float

    def batch(self, index: Tensor, seed: int, first: int) -> NoisyBatch:
        """The items `index`, which stand at the places `first`, `first` + 1, ... of the seed's order.

        All that is random in an item comes from (seed, place), whatever batch it stands in.
        """
        mean, deviation = self.moments[index].unbind(dim=1)
        steps = self.scheduler.config.num_train_timesteps
        draws = [_draw(mean[0], steps, generator_of(seed, first + i)) for i in range(len(index))]
        posterior, noise, timestep, chance = (torch.stack(drawn) for drawn in zip(*draws, strict=True))
        latents = mean + deviation * posterior
        text = self.text[index]
        text[chance < self.caption_dropout] = self.empty_text
        noisy = self.scheduler.add_noise(latents, noise, timestep)
        return NoisyBatch(noisy, self._target(latents, noise, timestep), timestep, text)

    def _target(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        kind = self.scheduler.config.prediction_type
        if kind == "epsilon":
            return noise
        if kind == "v_prediction":
            return self.scheduler.get_velocity(latents, noise, timestep)
        raise ValueError(f"unknown prediction type '{kind}' of the base's scheduler")


def _draw(like: Tensor, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One item's draws: of the posterior and the noise, each shaped as the latents, a timestep, a chance in [0, 1)."""
    posterior, noise = (torch.randn(like.shape, generator=generator) for _ in range(2))
    timestep = torch.randint(0, steps, (), generator=generator)
    return posterior, noise, timestep, torch.rand((), generator=generator)


def diffusion_loss(unet: Any, batch: NoisyBatch) -> Tensor:
    """Mean squared error of the UNet's prediction, a scalar."""
    device = unet.device
    noisy = batch.noisy.to(device, memory_format=torch.channels_last)
    predicted = unet(noisy, batch.timestep.to(device), batch.text.to(device)).sample
    return F.mse_loss(predicted.float(), batch.target.to(device))


def generator_of(seed: int, place: int) -> torch.Generator:
    """The generator of one item: a stream of its own for every (seed, place)."""
    state = np.random.SeedSequence([seed, place]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % MAXIMAL_SEED)


def shuffled_indices(seed: int, step: int, size: int, count: int) -> Tensor:
    """The items of one step: every epoch goes once through all items in an order of its own."""
    positions = np.arange(step * size, (step + 1) * size)
    order = {epoch: np.random.default_rng([seed, int(epoch)]).permutation(count) for epoch in set(positions // count)}
    return torch.tensor([order[p // count][p % count] for p in positions])
