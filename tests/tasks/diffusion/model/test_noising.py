"""The diffusion training loss: weights, noise offset, joined batches; against diffusers and cases by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.training_utils import compute_snr

from tasks.diffusion.model.latents import CachedLatents
from tasks.diffusion.model.noising import Noising, diffusion_loss, joined, min_snr_weight, signal_to_noise

NO_WINDOWS = torch.zeros(1, 1, 6)


def noising(**settings) -> Noising:
    generator = torch.Generator().manual_seed(0)
    variants = torch.randn(5, 4, 2, 3, 4, 4, generator=generator).abs()
    kind = settings.pop("prediction_type", "epsilon")
    scheduler = DDPMScheduler(prediction_type=kind, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    text = torch.arange(10.0).view(5, 2, 1)
    empty = {"encoder_hidden_states": torch.full((2, 1), -1.0)}
    return Noising(
        scheduler,
        CachedLatents(variants, NO_WINDOWS.expand(5, 4, 6)),
        {"encoder_hidden_states": text},
        empty,
        **settings,
    )


class HalvingModel:
    """A diffusion model that predicts half of its input."""

    def predict_noise(self, noisy, timestep, conditions):
        return 0.5 * noisy


HALVING: Any = HalvingModel()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_min_snr_weights_are_those_of_diffusers(kind):
    scheduler: DDPMScheduler = noising(prediction_type=kind).scheduler
    steps = torch.arange(1000)
    ratio = compute_snr(scheduler, steps)  # what diffusers' train_text_to_image_lora.py computes from it:
    theirs = torch.stack([ratio, 5 * torch.ones_like(ratio)], dim=1).min(dim=1)[0]
    theirs = theirs / ratio if kind == "epsilon" else theirs / (ratio + 1)
    ours = min_snr_weight(signal_to_noise(scheduler.alphas_cumprod[steps]), 5.0, kind)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_pure_noise_has_the_limits_weight():
    nothing = torch.zeros(1)
    assert min_snr_weight(nothing, 5.0, "epsilon").item() == 1
    assert min_snr_weight(nothing, 5.0, "v_prediction").item() == 0


def test_the_weighted_loss_by_hand():
    batch = noising(snr_gamma=5.0).batch(torch.tensor([0, 3]), 0, 0)
    assert batch.weight is not None
    errors = [(0.5 * batch.noisy[i] - batch.target[i]).square().mean() * batch.weight[i] for i in (0, 1)]
    torch.testing.assert_close(diffusion_loss(HALVING, batch), sum(errors) / 2)


def test_settings_leave_all_other_draws_unchanged():
    plain = noising().batch(torch.arange(5), 3, 10)
    weighted = noising(snr_gamma=5.0, noise_offset=0.1).batch(torch.arange(5), 3, 10)
    assert torch.equal(plain.timestep, weighted.timestep)
    offset = weighted.target - plain.target
    torch.testing.assert_close(offset, offset[:, :, :1, :1].expand_as(offset))
    assert 0.02 < offset.std() < 0.3


def test_random_numbers_depend_on_the_position_alone():
    whole = noising(caption_dropout=0.5, noise_offset=0.1).batch(torch.tensor([4, 1, 2]), 0, 6)
    part = noising(caption_dropout=0.5, noise_offset=0.1).batch(torch.tensor([2]), 0, 8)
    for name in ("noisy", "target", "timestep"):
        assert torch.equal(getattr(whole, name)[2:], getattr(part, name))
    assert torch.equal(whole.conditions["encoder_hidden_states"][2:], part.conditions["encoder_hidden_states"])


def test_joined_batches_have_the_sum_of_their_losses():
    instance, of_class = noising().batch(torch.arange(2), 0, 0), noising().batch(torch.arange(4), 1, 0)
    expected = diffusion_loss(HALVING, instance) + 0.3 * diffusion_loss(HALVING, of_class)
    torch.testing.assert_close(diffusion_loss(HALVING, joined(instance, of_class, 0.3)), expected)
    assert torch.equal(diffusion_loss(HALVING, instance), F.mse_loss(0.5 * instance.noisy, instance.target))
    assert torch.isfinite(diffusion_loss(HALVING, replace(instance, weight=torch.ones(2))))


def test_every_variant_is_drawn_about_equally_often():
    variants = torch.arange(4.0).view(1, 4, 1, 1, 1, 1).expand(1, 4, 2, 1, 1, 1).contiguous()
    latents = CachedLatents(variants, NO_WINDOWS.expand(1, 4, 6))
    views = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0))
    chosen = latents.moments(torch.zeros(4000, dtype=torch.long), views)[:, 0].flatten().long()
    assert (torch.bincount(chosen, minlength=4) - 1000).abs().max() < 120
