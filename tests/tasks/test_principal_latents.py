"""The bundled VAE's latents are turned, scaled and reduced without changing what it reconstructs."""

from typing import Any

import torch
from diffusers import AutoencoderKL

from tasks.bundled.recipes.principal_latents import principal_latents


def tiny_vae() -> Any:
    torch.manual_seed(0)
    vae: Any = AutoencoderKL(block_out_channels=(8,), latent_channels=6, norm_num_groups=4, sample_size=16)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return vae.eval()


def test_all_directions_reconstruct_as_before():
    vae, scaled = tiny_vae(), torch.rand(40, 3, 16, 16) * 2 - 1
    turned = principal_latents(vae, scaled, 6)
    with torch.no_grad():
        before = vae.decode(vae.encode(scaled).latent_dist.mean).sample
        latents = turned.encode(scaled).latent_dist.mean
        assert torch.allclose(turned.decode(latents).sample, before, atol=1e-3)
    covariance = torch.cov(latents.movedim(1, 3).flatten(0, 2).T)
    variances = covariance.diagonal()
    assert torch.allclose(covariance, variances.diag(), atol=1e-2)
    assert abs(variances.mean() - 1) < 1e-2
    assert (variances.diff() <= 1e-3).all()


def test_fewer_directions_are_those_that_the_decoder_reads():
    vae, scaled = tiny_vae(), torch.rand(40, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        vae.post_quant_conv.weight[:, 4:] = 0  # the decoder reads four of six channels
        vae.post_quant_conv.bias.zero_()  # so that no part of the centre is outside of them
        before = vae.decode(vae.encode(scaled).latent_dist.mean).sample
    turned = principal_latents(vae, scaled, 4)
    with torch.no_grad():
        latents = turned.encode(scaled).latent_dist.mean
        assert latents.shape[1] == 4
        assert torch.allclose(turned.decode(latents).sample, before, atol=2e-2)


def test_the_posteriors_noise_is_turned_with_the_latents():
    vae, scaled = tiny_vae(), torch.rand(40, 3, 16, 16) * 2 - 1
    turned = principal_latents(vae, scaled, 6)
    with torch.no_grad():
        old, new = vae.encode(scaled).latent_dist, turned.encode(scaled).latent_dist
        rows = [part.movedim(1, 3).flatten(0, 2) for part in (old.mean, new.mean)]
        into = torch.linalg.lstsq(rows[0] - rows[0].mean(dim=0), rows[1] - rows[1].mean(dim=0)).solution
        noise = torch.randn(50, *old.mean.shape) * old.std
        expected = torch.einsum("sncyx,cd->sndyx", noise, into).var(dim=(0, 1, 3, 4))
    torch.testing.assert_close(new.var.mean(dim=(0, 2, 3)), expected, rtol=0.02, atol=0)
