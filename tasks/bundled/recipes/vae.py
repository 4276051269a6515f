"""The bundled VAE: diffusers' AutoencoderKL, 64 px to latents of 16 x 16 x 8, scaled so that scaling_factor is 1.

`python -m tasks.bundled.build vae`, 55 to 100 minutes on two cores.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.bundled import pictures
from tasks.bundled.bundled_bases import STABLE_DIFFUSION
from tasks.bundled.icon_pictures import icon_pictures
from tasks.bundled.icons import held_out_names, trained_names
from tasks.bundled.pretraining import PROCESSES, Recipe, average_gradients, channels_last, on_processes, pretrain
from tasks.bundled.recipes.principal_latents import principal_latents
from tasks.diffusion.worlds.drawing import SIZE

RECIPE = Recipe(steps=4000, learning_rate=1.5e-3, weight_decay=0.0)
EXPECTED = "55 to 100 minutes on two cores"
BATCH = (6, 2, 4)  # creatures, objects and icons of one process
KL_WEIGHT = 2e-4
TRAINED_CHANNELS, LATENT_CHANNELS = 16, 8  # half of them hold nearly everything that the decoder reads


def build(target: Path, work: Path) -> dict:
    sets = training_sets()
    pixels = torch.cat([part.pixels for part in sets]).share_memory_()
    inputs = " ".join([*(part.digest for part in sets), str((BATCH, KL_WEIGHT))])
    folder = target / STABLE_DIFFUSION / "vae"
    trained = on_processes(_train, pixels, [len(part) for part in sets], inputs, folder, work)
    return trained | figures(load_vae(folder).eval())


def training_sets() -> list[pictures.PictureSet]:
    """Creatures, objects and icons."""
    icons = icon_pictures(trained_names(), pictures.TRAIN_SEED, copies=3)
    return [pictures.creatures(15_000), pictures.objects(6_000), icons]


def make_vae() -> Any:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    kind: Any = AutoencoderKL  # its signature says tuple[str], but it takes one name per level
    vae = kind(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        latent_channels=TRAINED_CHANNELS,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    for module in vae.modules():
        if type(module).__name__ == "ResnetBlock2D":  # the identity at first: it learns faster
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
    return channels_last(vae)


def load_vae(folder: Path) -> Any:
    from diffusers import AutoencoderKL

    return channels_last(AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32))


def _train(rank: int, pixels: Tensor, counts: list[int], inputs: str, folder: Path, work: Path) -> dict[str, Any]:
    vae = make_vae()

    def loss_of_step(step: int) -> Tensor:
        seed = step * PROCESSES + rank
        torch.manual_seed(seed)
        real = mirrored(pictures.scaled(pixels[pictures.mixed_indices(seed, counts, BATCH)]), step)
        posterior = vae.encode(real).latent_dist
        decoded = vae.decode(posterior.sample()).sample.float()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return reconstruction_loss(decoded, real) + KL_WEIGHT * kl

    probes = {"objects": pictures.objects(200, pictures.PROBE_SEED), "openmoji": pictures.openmoji_pictures(200)}
    probes["creatures"] = pictures.creatures(200, pictures.PROBE_SEED, True)
    seconds = pretrain(
        vae,
        loss_of_step,
        RECIPE,
        inputs,
        work,
        lambda: psnr(vae, probes),
        average_gradients,
        writes=rank == 0,
    )
    if rank == 0:
        vae = principal_latents(vae.eval(), pictures.scaled(pixels[::20]), LATENT_CHANNELS)
        vae.half().save_pretrained(folder)
    return {"seconds": round(seconds), "parameters": sum(p.numel() for p in vae.parameters())}


def mirrored(real: Tensor, step: int) -> Tensor:
    """Mirrored every other step, so that the decoder learns edges instead of positions."""
    return real.flip(3) if step % 2 else real


def reconstruction_loss(decoded: Tensor, real: Tensor) -> Tensor:
    """L1 + MSE + L1 of the differences between neighbours, which keeps edges sharp."""
    loss = F.l1_loss(decoded, real) + F.mse_loss(decoded, real)
    for axis in (2, 3):
        loss = loss + 0.5 * F.l1_loss(decoded.diff(dim=axis), real.diff(dim=axis))
    return loss


@torch.no_grad()
def reconstruct(vae, scaled: Tensor) -> Tensor:
    """Pictures [-1, 1] through the VAE's posterior mean, as uint8."""
    parts = [vae.decode(vae.encode(part).latent_dist.mean).sample for part in scaled.split(100)]
    return ((torch.cat(parts).float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


@torch.no_grad()
def psnr(vae, sets: dict[str, pictures.PictureSet]) -> dict[str, float]:
    """PSNR in dB (mean over pictures) of the reconstructions of each set."""
    results = {}
    for name, real in sets.items():
        decoded = reconstruct(vae, real.scaled(slice(None)))
        error = ((decoded.float() - real.pixels.float()) / 255).square().mean(dim=(1, 2, 3)).clamp_min(1e-6)
        results[f"psnr_{name}_db"] = round((-10 * error.log10()).mean().item(), 2)
    return results


def figures(vae) -> dict[str, float]:
    """PSNR in dB on pictures that training has not seen; KID x1000 of reconstructions and of others of their kind."""
    creatures = [pictures.creatures(1000, pictures.PROBE_SEED + i, True) for i in (0, 1)]
    emoji = pictures.openmoji_pictures(2000)
    halves = {"creatures": creatures, "openmoji": [emoji.part(slice(i, None, 2)) for i in (0, 1)]}
    sets = {"objects": pictures.objects(500, pictures.PROBE_SEED), "creatures": creatures[0], "openmoji": emoji}
    sets["held_out_icons"] = icon_pictures(held_out_names(), pictures.PROBE_SEED)
    results = psnr(vae, sets)
    for name, (real, other) in halves.items():
        decoded = reconstruct(vae, real.scaled(slice(None)))
        results[f"kid_reconstructed_{name}_x1000"] = kid(decoded, other.pixels)
        results[f"kid_real_{name}_x1000"] = kid(real.pixels, other.pixels)
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
