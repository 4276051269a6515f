"""The bundled UNet: diffusers' UNet2DConditionModel on the objects' latents, v-prediction, caption dropout, EMA.

`python -m tasks.bundled.build unet`, 30 to 34 minutes on two cores; build the VAE and the text encoder first. It runs
two single-thread processes with gradient all-reduce, which is faster on two cores than two threads of one process.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.bundled import pictures
from tasks.bundled.bundled_bases import CLASSIFIER, STABLE_DIFFUSION
from tasks.bundled.pretraining import Recipe, channels_last, pretrain

RECIPE = Recipe(steps=5600, learning_rate=1e-3, warmup_steps=200, ema_decay=0.9995, checkpointing_steps=250)
EXPECTED = "30 to 34 minutes on two cores"
PROCESSES, BATCH = 2, 32  # the batch of one process
CAPTION_DROPOUT = 0.1
SCHEDULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULER |= {"prediction_type": "v_prediction", "clip_sample": False, "steps_offset": 1}


def build(target: Path, work: Path) -> dict:
    with tempfile.TemporaryDirectory() as meeting:
        torch.multiprocessing.spawn(_process, (target, work, meeting), nprocs=PROCESSES)
    return json.loads((work / "figures.json").read_text()) | figures(target / STABLE_DIFFUSION)


def _process(rank: int, target: Path, work: Path, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}/store", rank=rank, world_size=PROCESSES)
    torch.manual_seed(0)
    unet = make_unet()
    moments, states, empty = _encoded(target / STABLE_DIFFUSION, 30_000, pictures.TRAIN_SEED)
    held = _encoded(target / STABLE_DIFFUSION, 512, pictures.PROBE_SEED)[:2]
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(**SCHEDULER)

    def loss_of_step(step: int) -> Tensor:
        index = pictures.batch_indices(step * PROCESSES + rank, len(moments), BATCH)
        torch.manual_seed(step * PROCESSES + rank)
        text = states[index]
        text[torch.rand(len(index)) < CAPTION_DROPOUT] = empty
        return diffusion_loss(unet, scheduler, moments[index], text)

    def probe() -> dict[str, float]:
        torch.manual_seed(0)
        losses = [
            diffusion_loss(unet, scheduler, a, b).item()
            for a, b in zip(held[0].split(128), held[1].split(128), strict=True)
        ]
        return {"held_out_loss": round(sum(losses) / len(losses), 5)}

    seconds = pretrain(unet, loss_of_step, RECIPE, work, probe, average_gradients, writes=rank == 0)
    if rank == 0:
        unet.half().save_pretrained(target / STABLE_DIFFUSION / "unet")
        scheduler.save_pretrained(target / STABLE_DIFFUSION / "scheduler")
        (target / STABLE_DIFFUSION / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=2) + "\n")
        results = {"seconds": round(seconds), "parameters": sum(p.numel() for p in unet.parameters())}
        (work / "figures.json").write_text(json.dumps(results))
    dist.destroy_process_group()


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
        sample_size=8,
        in_channels=16,
        out_channels=16,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(96, 128),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,  # the number of heads, in diffusers' historical naming
        use_linear_projection=True,
    )
    return channels_last(unet)


def diffusion_loss(unet: nn.Module, scheduler, moments: Tensor, text: Tensor) -> Tensor:
    """Mean squared error of the predicted velocity (Salimans & Ho 2022, section 4)."""
    latents = moments[:, 0] + moments[:, 1] * torch.randn_like(moments[:, 1])
    noise = torch.randn_like(latents)
    step = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),))
    noisy = scheduler.add_noise(latents, noise, step).to(memory_format=torch.channels_last)
    predicted = unet(noisy, step, text).sample
    return F.mse_loss(predicted.float(), scheduler.get_velocity(latents, noise, step))


def average_gradients(model: nn.Module) -> None:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = (flat / PROCESSES).split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def _encoded(mini: Path, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Moments, text states of `count` objects, and the states of the empty caption."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

    from tasks.diffusion.model.encoding import encode_captions, encode_pictures

    vae = AutoencoderKL.from_pretrained(mini / "vae", torch_dtype=torch.float32).eval()
    text_encoder = CLIPTextModel.from_pretrained(mini / "text_encoder", dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(mini / "tokenizer")
    real = pictures.objects(count, seed)
    states = encode_captions(text_encoder, tokenizer, [*real.captions, ""])
    return encode_pictures(vae, real.pixels), states[:-1], states[-1]


def figures(mini: Path) -> dict[str, float]:
    """Attribute alignment and KID of the base's own samples on its own world, 500 prompts."""
    from tasks.bundled.recipes.vae import kid
    from tasks.diffusion.evaluation.attributes import AttributeClassifier
    from tasks.diffusion.model import bases
    from tasks.diffusion.model.sampling import Sampling, sample

    base = bases.load(str(mini), torch.device("cpu"))
    real = pictures.objects(500, pictures.PROBE_SEED)
    prompts = [f"a {a['size']} {a['colour']} {a['kind']} on a {a['background']} background" for a in real.attributes]
    drawn = sample(base, prompts, Sampling(num_inference_steps=12, guidance_scale=3.0))
    seen = AttributeClassifier.load(mini.parent / CLASSIFIER.name).predict(drawn, "objects")
    results = {
        f"alignment_{name}": sum(a[name] == b[name] for a, b in zip(seen, real.attributes, strict=True)) / len(real)
        for name in real.attributes[0]
    }
    return results | {"kid_samples_x1000": kid(drawn, pictures.objects(500, pictures.PROBE_SEED + 1).pixels)}
