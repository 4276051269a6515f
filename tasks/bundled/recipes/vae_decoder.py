"""The bundled VAE's decoder, trained further on noisy latents: what a UNet gets slightly wrong, it shall not show.

`python -m tasks.bundled.build vae-decoder`, 15 to 35 minutes on two cores, after vae. The encoder stays, and with it
what a UNet learned.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.bundled import pictures
from tasks.bundled.bundled_bases import STABLE_DIFFUSION
from tasks.bundled.pretraining import PROCESSES, Recipe, average_gradients, channels_last, on_processes, pretrain
from tasks.bundled.recipes.vae import BATCH, figures, mirrored, reconstruction_loss, training_sets
from tasks.pretrained.revision import folder_revision

RECIPE = Recipe(steps=2000, learning_rate=6e-4, weight_decay=0.0)
EXPECTED = "15 to 35 minutes on two cores"
NOISE = 0.6  # largest standard deviation; that of a latent channel is between .3 and 2


def build(target: Path, work: Path) -> dict:
    sets = training_sets()
    pixels = torch.cat([part.pixels for part in sets]).share_memory_()
    folder = target / STABLE_DIFFUSION / "vae"
    inputs = " ".join([folder_revision(folder), *(part.digest for part in sets)])
    trained = on_processes(_train, pixels, [len(part) for part in sets], inputs, folder, work)
    return trained | figures(_load(folder).eval())


def _load(folder: Path) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32)


def _train(rank: int, pixels: Tensor, counts: list[int], inputs: str, folder: Path, work: Path) -> dict[str, Any]:
    vae = channels_last(_load(folder))
    for part in (vae.encoder, vae.quant_conv):
        part.requires_grad_(False)
    training = pictures.PictureSet(pixels, [], [])

    def loss_of_step(step: int) -> Tensor:
        seed = step * PROCESSES + rank
        torch.manual_seed(seed)
        real = mirrored(training.scaled(pictures.mixed_indices(seed, counts, BATCH)), step)
        with torch.no_grad():
            latents = vae.encode(real).latent_dist.mean.float()
        noise = NOISE * torch.rand(len(real), 1, 1, 1) * torch.randn_like(latents)
        return reconstruction_loss(vae.decode(latents + noise).sample.float(), real)

    decoder = torch.nn.ModuleList([vae.decoder, vae.post_quant_conv])
    seconds = pretrain(decoder, loss_of_step, RECIPE, inputs, work, averager=average_gradients, writes=rank == 0)
    if rank == 0:
        vae.register_to_config(_name_or_path=STABLE_DIFFUSION)  # not the path that it was loaded from
        vae.half().save_pretrained(folder)
    return {"seconds": round(seconds), "parameters": sum(p.numel() for p in decoder.parameters())}
