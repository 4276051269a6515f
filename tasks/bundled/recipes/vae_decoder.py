"""The bundled VAE's decoder, trained further on latents as the UNet leaves them: its small errors shall not show.

`python -m tasks.bundled.build vae-decoder`, 15 to 60 minutes on two cores, after all other parts of pictures. The
encoder stays, and with it what the UNet learned. A second build trains the decoder further: the bundled one was built
after unet and again after unet-min-snr.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.bundled import base_samples, pictures
from tasks.bundled.bundled_bases import STABLE_DIFFUSION
from tasks.bundled.pretraining import PROCESSES, Recipe, average_gradients, channels_last, on_processes, pretrain
from tasks.bundled.recipes.unet import load_unet, text_states
from tasks.bundled.recipes.vae import BATCH, figures, mirrored, reconstruction_loss, training_sets
from tasks.pretrained.revision import folder_revision

RECIPE = Recipe(steps=1200, learning_rate=6e-4, weight_decay=0.0)
EXPECTED = "15 to 60 minutes on two cores"
NOISE = 0.5  # largest standard deviation, mostly much less; that of a latent channel is between .3 and 2
SAMPLING_STEPS, LAST = 12, 5  # solver steps from noise to a picture, of which the UNet takes 1 to LAST


def build(target: Path, work: Path) -> dict:
    sets = training_sets()
    pixels = torch.cat([part.pixels for part in sets]).share_memory_()
    mini = target / STABLE_DIFFUSION
    needed = [folder_revision(mini / part) for part in ("vae", "unet", "text_encoder", "tokenizer")]
    inputs = " ".join([*needed, *(part.digest for part in sets)])
    trained = on_processes(_train, pixels, [len(part) for part in sets], inputs, mini, work)
    return trained | figures(_load_vae(mini).eval()) | base_samples.figures(target)


def _load_vae(mini: Path) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(mini / "vae", torch_dtype=torch.float32)


def _train(rank: int, pixels: Tensor, counts: list[int], inputs: str, mini: Path, work: Path) -> dict[str, Any]:
    vae = channels_last(_load_vae(mini))
    for part in (vae.encoder, vae.quant_conv):
        part.requires_grad_(False)
    sampler = LastSteps(mini)
    training = pictures.PictureSet(pixels, [], [])

    def loss_of_step(step: int) -> Tensor:
        seed = step * PROCESSES + rank
        torch.manual_seed(seed)
        real = mirrored(training.scaled(pictures.mixed_indices(seed, counts, BATCH)), step)
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

        self.unet = load_unet(mini).eval().requires_grad_(False)
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
