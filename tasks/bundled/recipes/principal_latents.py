"""The directions of a VAE's latents that its decoder reads most, folded into the VAE's own weights."""

from typing import Any

import torch
from torch import Tensor


def principal_latents(vae: Any, scaled: Tensor, channels: int) -> Any:
    """The VAE with the `channels` directions of its latents that the decoder reads most, estimated on pictures [-1, 1].

    A direction's importance is its variance times the decoder's mean squared sensitivity to it, that is its share of
    the pictures' variance, to first order. Its new variance is in proportion to the square root of the importance, 1 in
    the mean: a UNet learns what is seen before what is hardly seen.
    """
    mean, covariance, posterior = _channel_statistics(vae, scaled)
    factor = torch.linalg.cholesky(covariance)
    importance, directions = torch.linalg.eigh(factor.T @ _sensitivity(vae, scaled) @ factor)  # ascending
    importance, directions = importance[-channels:].flip(0), directions[:, -channels:].flip(1)
    scales = importance.clamp_min(1e-12) ** 0.25
    scales /= scales.square().mean().sqrt()
    into = scales[:, None] * (directions.T @ torch.linalg.inv(factor))
    return _folded(vae, into, factor @ directions / scales, mean, into.square() @ posterior)


def _folded(vae: Any, into: Tensor, back: Tensor, mean: Tensor, variances: Tensor) -> Any:
    """The VAE with latents into @ (old - mean) of constant posterior variances, read as back @ latents + mean.

    `into` is (channels, old channels), `back` its right inverse. The quant convolutions become the identity, the second
    one with a shift.
    """
    from diffusers import AutoencoderKL

    channels, old_channels = into.shape
    kind: Any = AutoencoderKL
    folded = kind.from_config({**vae.config, "latent_channels": channels}).eval()
    old, new = vae.state_dict(), folded.state_dict()
    new |= {name: old[name] for name in new if old[name].shape == new[name].shape}

    quant, quant_bias = old["quant_conv.weight"][:old_channels, :, 0, 0], old["quant_conv.bias"][:old_channels]
    means = torch.einsum("ci,iohw->cohw", into @ quant, old["encoder.conv_out.weight"])
    means_bias = into @ (quant @ old["encoder.conv_out.bias"] + quant_bias - mean)
    new["encoder.conv_out.weight"] = torch.cat([means, torch.zeros_like(means)])  # means, log-variances
    new["encoder.conv_out.bias"] = torch.cat([means_bias, variances.log()])
    new["quant_conv.weight"] = torch.eye(2 * channels)[:, :, None, None]
    new["quant_conv.bias"] = torch.zeros(2 * channels)

    post = old["post_quant_conv.weight"][:, :, 0, 0]
    centre = post @ mean + old["post_quant_conv.bias"]
    # as far as the channels can hold the centre, it is added before the next convolution pads with zeros
    shift = torch.linalg.lstsq(post @ back, centre).solution
    rest = centre - post @ back @ shift
    new["post_quant_conv.weight"] = torch.eye(channels)[:, :, None, None]
    new["post_quant_conv.bias"] = shift
    next_weight = old["decoder.conv_in.weight"]
    new["decoder.conv_in.weight"] = torch.einsum("oihw,ic->ochw", next_weight, post @ back)
    new["decoder.conv_in.bias"] = old["decoder.conv_in.bias"] + torch.einsum("oihw,i->o", next_weight, rest)
    folded.load_state_dict(new)
    return folded


@torch.no_grad()
def _channel_statistics(vae: Any, scaled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance of the latents' channels, and the mean variance of their posteriors."""
    latents = [vae.encode(part).latent_dist for part in scaled.split(100)]
    means = torch.cat([part.mean for part in latents]).movedim(1, 3).flatten(0, 2)
    posterior = torch.cat([part.var for part in latents]).mean(dim=(0, 2, 3))
    return means.mean(dim=0), torch.cov(means.T) + 1e-6 * torch.eye(means.shape[1]), posterior


def _sensitivity(vae: Any, scaled: Tensor, pictures_used: int = 48, probes: int = 16) -> Tensor:
    """The decoder's mean J^T J over positions, (channels, channels), from random vectors (Hutchinson's estimator)."""
    with torch.no_grad():
        latents = vae.encode(scaled[:: max(1, len(scaled) // pictures_used)]).latent_dist.mean
    latents.requires_grad_(True)
    random = torch.Generator().manual_seed(0)
    gram = torch.zeros(latents.shape[1], latents.shape[1])
    for _ in range(probes):
        decoded = vae.decode(latents).sample
        direction = torch.randn(decoded.shape, generator=random)
        (gradient,) = torch.autograd.grad((decoded * direction).sum(), latents)
        rows = gradient.movedim(1, 3).flatten(0, 2)
        gram += rows.T @ rows / (len(rows) * probes)
    return gram
