"""The bundled UNet: diffusers' UNet2DConditionModel on latents of objects and icons; v-prediction, caption dropout.

`python -m tasks.bundled.build unet`, 3 to 4 hours on two cores after text-encoder and vae.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tasks.bundled import pictures
from tasks.bundled.bundled_bases import CARD, FOLDERS, STABLE_DIFFUSION
from tasks.bundled.icon_pictures import icon_pictures
from tasks.bundled.icons import held_out_names, unet_names
from tasks.bundled.pretraining import (
    PROCESSES,
    Recipe,
    average_gradients,
    channels_last,
    kept_start,
    on_processes,
    pretrain,
)
from tasks.bundled.recipes.vae import load_vae
from tasks.diffusion.model.noising import min_snr_weight, signal_to_noise, weighted_error
from tasks.pretrained.revision import folder_revision

EXPECTED = "3 to 4 hours on two cores"
CAPTION_DROPOUT = 0.1
SCHEDULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULER |= {"prediction_type": "v_prediction", "clip_sample": False, "steps_offset": 1}
SCHEDULER |= {"timestep_spacing": "trailing"}  # samples begin at the last step, where least of the picture is left


@dataclass(frozen=True)
class Phase:
    """A part of the UNet's training: `batch` counts the objects and the icons of one process."""

    recipe: Recipe
    batch: tuple[int, int]
    snr_gamma: float | None = None
    continues: bool = False  # from the weights that are there


FIRST = Phase(
    Recipe(steps=9000, learning_rate=1.2e-3, warmup_steps=200, ema_decay=0.9995, checkpointing_steps=250),
    batch=(14, 50),
)


def build(target: Path, work: Path, phase: Phase = FIRST) -> dict:
    sets = training_sets()
    probes = {
        "objects": pictures.objects(512, pictures.PROBE_SEED),
        "icons": icon_pictures(unet_names(), pictures.PROBE_SEED).part(slice(None, None, 8)),
        "held_out_icons": icon_pictures(held_out_names(), pictures.PROBE_SEED),
    }
    mini, counts = target / STABLE_DIFFUSION, [len(part) for part in sets]
    start = kept_start(mini / "unet", work) if phase.continues else None
    needed = [*(mini / part for part in ("vae", "text_encoder", "tokenizer")), *([start] if start else [])]
    settings = str((phase.batch, phase.snr_gamma, CAPTION_DROPOUT))
    inputs = " ".join([*(folder_revision(folder) for folder in needed), *(part.digest for part in sets), settings])
    moments, states = (part.share_memory_() for part in _encoded(mini, pictures.concatenated(sets)))
    encoded_probes = {name: _encoded(mini, real) for name, real in probes.items()}
    return on_processes(_train, phase, start, moments, states, inputs, counts, encoded_probes, mini, work)


def training_sets() -> list[pictures.PictureSet]:
    """Objects and icons."""
    return [pictures.objects(8_000), icon_pictures(unet_names(), pictures.TRAIN_SEED, copies=4)]


def _train(
    rank: int,
    phase: Phase,
    start: Path | None,
    moments: Tensor,
    states: Tensor,
    inputs: str,
    counts: list[int],
    probes: Mapping[str, tuple[Tensor, Tensor]],
    mini: Path,
    work: Path,
) -> dict[str, Any]:
    from diffusers import DDPMScheduler

    torch.manual_seed(0)
    unet = load_unet(start) if start else make_unet()
    scheduler = DDPMScheduler(**SCHEDULER)
    empty = states[-1].float()  # the caption that dropout leaves

    def loss_of_step(step: int) -> Tensor:
        seed = step * PROCESSES + rank
        index = pictures.mixed_indices(seed, counts, phase.batch)
        torch.manual_seed(seed)
        text = states[index].float()
        text[torch.rand(len(index)) < CAPTION_DROPOUT] = empty
        return diffusion_loss(unet, scheduler, moments[index].float(), text, phase.snr_gamma)

    def probe() -> dict[str, float]:
        """Losses without weights, which compare with those of every phase."""
        results = {}
        for name, (encoded, text) in probes.items():
            torch.manual_seed(0)
            parts = zip(encoded.float().split(128), text[:-1].float().split(128), strict=True)
            losses = [diffusion_loss(unet, scheduler, *part).item() * len(part[0]) for part in parts]
            results[f"loss_{name}"] = round(sum(losses) / len(encoded), 5)
        return results

    seconds = pretrain(unet, loss_of_step, phase.recipe, inputs, work, probe, average_gradients, writes=rank == 0)
    if rank == 0:
        unet.register_to_config(_name_or_path=STABLE_DIFFUSION)  # not the path that a further phase loads it from
        unet.half().save_pretrained(mini / "unet")
        scheduler.save_pretrained(mini / "scheduler")
        (mini / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=2) + "\n")
        if not (mini / CARD).exists():  # in another target
            shutil.copy(FOLDERS[STABLE_DIFFUSION] / CARD, mini)
    return {"seconds": round(seconds), "parameters": sum(p.numel() for p in unet.parameters())}


MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDPMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def make_unet() -> Any:
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 112, 176),
        norm_num_groups=16,
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,  # the number of heads, in diffusers' historical naming
        use_linear_projection=True,
    )
    return channels_last(unet)


def load_unet(folder: Path) -> Any:
    from diffusers import UNet2DConditionModel

    unet: Any = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)
    return channels_last(unet).train()


def diffusion_loss(unet: nn.Module, scheduler, moments: Tensor, text: Tensor, snr_gamma: float | None = None) -> Tensor:
    """Mean squared error of the predicted velocity (Salimans & Ho 2022, section 4), with min-SNR weights if asked."""
    latents = moments[:, 0] + moments[:, 1] * torch.randn_like(moments[:, 1])
    noise = torch.randn_like(latents)
    step = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),))
    noisy = scheduler.add_noise(latents, noise, step).to(memory_format=torch.channels_last)
    predicted = unet(noisy, step, text).sample
    ratio = signal_to_noise(scheduler.alphas_cumprod[step])
    weight = None if snr_gamma is None else min_snr_weight(ratio, snr_gamma, scheduler.config.prediction_type)
    return weighted_error(predicted.float(), scheduler.get_velocity(latents, noise, step), weight)


def _encoded(mini: Path, real: pictures.PictureSet) -> tuple[Tensor, Tensor]:
    """In fp16: moments of the latents (n, 2, 8, 16, 16); text states (n + 1, 32, 128), the empty caption last."""
    with torch.multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        moments = pool.starmap(_moments, [(mini, pixels) for pixels in real.pixels.chunk(PROCESSES)])
    return torch.cat(moments), text_states(mini, [*real.captions, ""])


def text_states(mini: Path, captions: list[str]) -> Tensor:
    """What the UNet attends to, (n, 32, 128) in fp16."""
    from transformers import CLIPTextModel, CLIPTokenizer

    from tasks.diffusion.model.encoding import encode_captions

    text_encoder = CLIPTextModel.from_pretrained(mini / "text_encoder", dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(mini / "tokenizer")
    return encode_captions(text_encoder, tokenizer, captions).half()


def _moments(mini: Path, pixels: Tensor) -> Tensor:
    from tasks.diffusion.model.encoding import encode_pictures

    torch.set_num_threads(1)
    return encode_pictures(load_vae(mini / "vae").eval(), pixels).half()
