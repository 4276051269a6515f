"""The bundled VAE: diffusers' AutoencoderKL, 32 px to latents of 16 x 8 x 8, scaled so that scaling_factor is 1.

`python -m tasks.bundled.build vae`, 35 to 44 minutes on one core.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.bundled import pictures
from tasks.bundled.bundled_bases import STABLE_DIFFUSION
from tasks.bundled.pretraining import Recipe, channels_last, pretrain

RECIPE = Recipe(steps=3400, learning_rate=1.5e-3, weight_decay=0.0)
EXPECTED = "35 to 44 minutes on one core"
BATCH = 64
KL_WEIGHT = 2e-4
LATENT_CHANNELS = 16


def build(target: Path, work: Path) -> dict:
    """Train on objects, creatures and 15 % OpenMoji; write `target` and return the figures of the card."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    kind: Any = AutoencoderKL  # its signature says tuple[str], but it takes one name per level
    vae = kind(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    channels_last(vae)
    drawn = pictures.objects(20_000) + pictures.creatures(20_000)
    emoji = pictures.openmoji_pictures(unseen=False)

    def loss_of_step(step: int) -> Tensor:
        first = drawn.scaled(pictures.batch_indices(step, len(drawn), BATCH - 10))
        second = emoji.scaled(pictures.batch_indices(step, len(emoji), 10))
        real = _augment(torch.cat([first, second]), step)
        posterior = vae.encode(real).latent_dist
        decoded = vae.decode(posterior.sample()).sample.float()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return _reconstruction_loss(decoded, real) + KL_WEIGHT * kl

    seconds = pretrain(vae, loss_of_step, RECIPE, work, lambda: figures(vae, distance=False))
    vae.eval()
    _fold_statistics(vae, drawn)
    vae.half().save_pretrained(target / STABLE_DIFFUSION / "vae")
    result = {"seconds": round(seconds), "parameters": sum(p.numel() for p in vae.parameters())}
    return result | figures(vae.float(), distance=True)


def _augment(real: Tensor, step: int) -> Tensor:
    """Mirror every other step, so that the decoder learns edges instead of positions."""
    return real.flip(3) if step % 2 else real


def _reconstruction_loss(decoded: Tensor, real: Tensor) -> Tensor:
    """L1 + MSE + L1 of the differences between neighbours, which keeps edges sharp."""
    loss = F.l1_loss(decoded, real) + F.mse_loss(decoded, real)
    for axis in (2, 3):
        loss = loss + 0.5 * F.l1_loss(decoded.diff(dim=axis), real.diff(dim=axis))
    return loss


@torch.no_grad()
def _fold_statistics(vae, drawn: pictures.PictureSet) -> None:
    """Fold the latents' channel means and deviations into the quant convolutions: latents of mean 0, deviation 1."""
    index = torch.arange(0, len(drawn), 20)
    mean = torch.cat([vae.encode(drawn.scaled(part)).latent_dist.mean for part in index.split(500)])
    centre, spread = mean.mean(dim=(0, 2, 3)), mean.std(dim=(0, 2, 3)).clamp_min(1e-3)
    quant, post = vae.quant_conv, vae.post_quant_conv
    channels = len(centre)
    quant.weight[:channels] /= spread[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - centre) / spread
    quant.bias[channels:] -= 2 * spread.log()  # the log-variance half
    post.bias += (post.weight[:, :, 0, 0] * centre).sum(dim=1)
    post.weight *= spread[None, :, None, None]


@torch.no_grad()
def reconstruct(vae, scaled: Tensor) -> Tensor:
    """Pictures [-1, 1] through the VAE's posterior mean, as uint8."""
    parts = [vae.decode(vae.encode(part).latent_dist.mean).sample for part in scaled.split(250)]
    return ((torch.cat(parts).float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def figures(vae, distance: bool) -> dict[str, float]:
    """PSNR in dB (mean over pictures) on held-out pictures; KID x1000 of reconstructed creatures if `distance`."""
    sets = {
        "objects": pictures.objects(500, pictures.PROBE_SEED),
        "creatures": pictures.creatures(1000, pictures.PROBE_SEED, True),
        "unseen_openmoji": pictures.openmoji_pictures(unseen=True),
    }
    results = {}
    for name, real in sets.items():
        decoded = reconstruct(vae, real.scaled(slice(None)))
        error = ((decoded.float() - real.pixels.float()) / 255).square().mean(dim=(1, 2, 3))
        results[f"psnr_{name}_db"] = round((-10 * error.log10()).mean().item(), 2)
        if distance and name == "creatures":
            other = pictures.creatures(1000, pictures.PROBE_SEED + 1, True)
            results["kid_reconstructed_creatures_x1000"] = kid(decoded, other.pixels)
            results["kid_real_creatures_x1000"] = kid(real.pixels, other.pixels)
    return results


def kid(first: Tensor, second: Tensor) -> float:
    """KID x1000 of two sets of pictures in EfficientNet-Lite0 features, over 50 random subsets of 500.

    The metric of the tasks takes one subset of precomputed features. Here the subsets depend on the random numbers that
    the extractor draws after the seed, so that calling it would change the card's figures.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    from tasks.diffusion.evaluation.features import EfficientNetLite0

    torch.manual_seed(0)
    metric = KernelInceptionDistance(feature=EfficientNetLite0(), subsets=50, subset_size=500)
    for pixels, real in ((second, True), (first, False)):
        for part in pixels.split(250):
            metric.update(part, real=real)
    return round(1000 * metric.compute()[0].item(), 1)
