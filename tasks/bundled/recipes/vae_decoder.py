"""The bundled VAE's decoder, trained further on latents as the UNet leaves them: it hides the UNet's small errors.

`python -m tasks.bundled.build vae-decoder`, 15 to 60 minutes on two cores, after the UNet, scorer and classifier. The
encoder stays, and with it what the UNet learned. A second build trains the decoder further: the bundled one was built
after unet and again after unet-min-snr.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.bundled import base_samples, pictures
from tasks.bundled.bundled_bases import STABLE_DIFFUSION
from tasks.bundled.pretraining import PROCESSES, Recipe, average_gradients, kept_start, on_processes, pretrain
from tasks.bundled.recipes.unet import load_unet, text_states
from tasks.bundled.recipes.vae import BATCH, figures, load_vae, mirrored, reconstruction_loss, training_sets
from tasks.pretrained.revision import folder_revision

RECIPE = Recipe(steps=1200, learning_rate=6e-4, weight_decay=0.0)
EXPECTED = "15 to 60 minutes on two cores"
NOISE = 0.5  # largest standard deviation, mostly much less; that of a latent channel is between .3 and 2
UNET_PARTS = ("unet", "text_encoder", "tokenizer")
SAMPLING_STEPS, LAST = 12, 5  # solver steps from noise to a picture, of which the UNet takes 1 to LAST


def build(target: Path, work: Path) -> dict:
    sets = training_sets()
    pixels = torch.cat([part.pixels for part in sets]).share_memory_()
    mini = target / STABLE_DIFFUSION
    start = kept_start(mini / "vae", work)
    needed = [folder_revision(folder) for folder in (start, *(mini / part for part in UNET_PARTS))]
    inputs = " ".join([*needed, *(part.digest for part in sets), str((BATCH, NOISE, SAMPLING_STEPS, LAST))])
    trained = on_processes(_train, start, pixels, [len(part) for part in sets], inputs, mini, work)
    base = base_samples.load_base(target)
    base_samples.write_sheet(base, target)
    return trained | figures(load_vae(mini / "vae").eval()) | {"samples": base_samples.figures(base, target)}


def _train(
    rank: int, start: Path, pixels: Tensor, counts: list[int], inputs: str, mini: Path, work: Path
) -> dict[str, Any]:
    vae = load_vae(start)
    for part in (vae.encoder, vae.quant_conv):
        part.requires_grad_(False)
    sampler = LastSteps(mini)

    def loss_of_step(step: int) -> Tensor:
        seed = step * PROCESSES + rank
        torch.manual_seed(seed)
        real = mirrored(pictures.scaled(pixels[pictures.mixed_indices(seed, counts, BATCH)]), step)
        with torch.no_grad():
            latents = vae.encode(real).latent_dist.mean.float()
            noise = NOISE * torch.rand(len(real), 1, 1, 1).square() * torch.randn_like(latents)
            sampled = sampler(latents[::2], 1 + step % LAST)
        noisy = latents + noise
        noisy[::2] = sampled
        return reconstruction_loss(vae.decode(noisy).sample.float(), real)

    decoder = torch.nn.ModuleList([vae.decoder, vae.post_quant_conv])
    seconds = pretrain(decoder, loss_of_step, RECIPE, inputs, work, averager=average_gradients, writes=rank == 0)
    if rank == 0:
        vae.register_to_config(_name_or_path=STABLE_DIFFUSION)  # not the path that it was loaded from
        vae.half().save_pretrained(mini / "vae")
    return {"seconds": round(seconds), "parameters": sum(p.numel() for p in decoder.parameters())}


class LastSteps:
    """Latents (n, 8, 16, 16) noised as before the last `count` steps of sampling, and denoised by the UNet.

    It sees the empty caption: then it knows less of the picture, and its errors are larger.
    """

    def __init__(self, mini: Path):
        from diffusers import DPMSolverMultistepScheduler

        self.unet = load_unet(mini / "unet").eval().requires_grad_(False)
        self.solver: Any = DPMSolverMultistepScheduler.from_pretrained(mini / "scheduler")
        self.empty = text_states(mini, [""]).float()

    def __call__(self, latents: Tensor, count: int) -> Tensor:
        self.solver.set_timesteps(SAMPLING_STEPS)
        self.solver.set_begin_index(SAMPLING_STEPS - count)
        steps = self.solver.timesteps[-count:]
        noisy = self.solver.add_noise(latents, torch.randn_like(latents), steps[:1].expand(len(latents)))
        for step in steps:
            text = self.empty.expand(len(noisy), -1, -1)
            predicted = self.unet(noisy.to(memory_format=torch.channels_last), step, text).sample.float()
            noisy = self.solver.step(predicted, step, noisy).prev_sample
        return noisy
