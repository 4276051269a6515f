"""The bundled UNet: diffusers' UNet2DConditionModel on latents of objects and icons; v-prediction, caption dropout.

`python -m tasks.bundled.build unet`, 75 to 100 minutes on two cores; build all other parts of pictures first.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.bundled import pictures
from tasks.bundled.bundled_bases import CLASSIFIER, SCORER, STABLE_DIFFUSION
from tasks.bundled.icons import captions_of, icon_pictures, icons
from tasks.bundled.pretraining import PROCESSES, Recipe, average_gradients, channels_last, on_processes, pretrain
from tasks.diffusion.worlds.objects import Objects

RECIPE = Recipe(steps=9000, learning_rate=1e-3, warmup_steps=200, ema_decay=0.9995, checkpointing_steps=250)
EXPECTED = "75 to 100 minutes on two cores"
BATCH = (11, 21)  # objects and icons of one process
CAPTION_DROPOUT = 0.1
SCHEDULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULER |= {"prediction_type": "v_prediction", "clip_sample": False, "steps_offset": 1}


def build(target: Path, work: Path) -> dict:
    work.mkdir(parents=True, exist_ok=True)
    seen = [pictures.objects(10_000), icon_pictures(pictures.TRAIN_SEED, each=5)]
    held = {
        "objects": pictures.objects(512, pictures.PROBE_SEED),
        "icons": icon_pictures(pictures.PROBE_SEED).part(slice(None, None, 10)),
        "held_out_icons": icon_pictures(pictures.PROBE_SEED, held_out=True),
    }
    file = work / "encoded.pt"
    if not file.exists():
        mini = target / STABLE_DIFFUSION
        torch.save((_encoded(mini, sum(seen[1:], seen[0])), {k: _encoded(mini, v) for k, v in held.items()}), file)
    (latents, states), held_encoded = torch.load(file)
    shared = [tensor.share_memory_() for tensor in (latents, states)]
    on_processes(_train, *shared, [len(each) for each in seen], held_encoded, target, work)
    file.unlink()
    return json.loads((work / "figures.json").read_text()) | figures(target / STABLE_DIFFUSION)


def _train(
    rank: int, moments: Tensor, states: Tensor, counts: list[int], held: dict[str, Any], target: Path, work: Path
) -> None:
    from diffusers import DDPMScheduler

    torch.manual_seed(0)
    unet = make_unet()
    scheduler = DDPMScheduler(**SCHEDULER)
    empty = states[-1].float()  # the caption that dropout leaves

    def loss_of_step(step: int) -> Tensor:
        own = step * PROCESSES + rank
        index = pictures.mixed_indices(own, counts, BATCH)
        torch.manual_seed(own)
        text = states[index].float()
        text[torch.rand(len(index)) < CAPTION_DROPOUT] = empty
        return diffusion_loss(unet, scheduler, moments[index].float(), text)

    def probe() -> dict[str, float]:
        if rank:
            return {}
        results = {}
        for name, (latents, text) in held.items():
            torch.manual_seed(0)
            parts = zip(latents.float().split(128), text[:-1].float().split(128), strict=True)
            losses = [diffusion_loss(unet, scheduler, *part).item() for part in parts]
            results[f"held_out_loss_{name}"] = round(sum(losses) / len(losses), 5)
        return results

    seconds = pretrain(unet, loss_of_step, RECIPE, work, probe, average_gradients, writes=rank == 0)
    if rank == 0:
        unet.half().save_pretrained(target / STABLE_DIFFUSION / "unet")
        scheduler.save_pretrained(target / STABLE_DIFFUSION / "scheduler")
        (target / STABLE_DIFFUSION / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=2) + "\n")
        results = {"seconds": round(seconds), "parameters": sum(p.numel() for p in unet.parameters())}
        (work / "figures.json").write_text(json.dumps(results))


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
        in_channels=16,
        out_channels=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(48, 96, 128),
        norm_num_groups=16,
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


def _encoded(mini: Path, real: pictures.PictureSet) -> tuple[Tensor, Tensor]:
    """In fp16: moments of the latents (n, 2, 16, 16, 16); text states (n + 1, 32, 128), the last of an empty caption."""
    from transformers import CLIPTextModel, CLIPTokenizer

    from tasks.diffusion.model.encoding import encode_captions

    text_encoder = CLIPTextModel.from_pretrained(mini / "text_encoder", dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(mini / "tokenizer")
    states = [encode_captions(text_encoder, tokenizer, part).half() for part in _parts([*real.captions, ""], 1000)]
    with torch.multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        moments = pool.starmap(_moments, [(mini, pixels) for pixels in real.pixels.chunk(PROCESSES)])
    return torch.cat(moments), torch.cat(states)


def _moments(mini: Path, pixels: Tensor) -> Tensor:
    from diffusers import AutoencoderKL

    from tasks.diffusion.model.encoding import encode_pictures

    torch.set_num_threads(1)
    vae = AutoencoderKL.from_pretrained(mini / "vae", torch_dtype=torch.float32).eval()
    return encode_pictures(vae, pixels).half()


def _parts(captions: list[str], size: int) -> list[list[str]]:
    return [captions[start : start + size] for start in range(0, len(captions), size)]


def figures(mini: Path) -> dict[str, float]:
    """What the base's own samples show, at the card's settings of sampling.

    Of 500 objects the attributes that the classifier finds, and the KID; of 100 names of icons, R@1 by the scorer.
    """
    from tasks.bundled.recipes.contrastive import recall_at_1
    from tasks.bundled.recipes.vae import kid
    from tasks.diffusion.evaluation.attributes import AttributeClassifier
    from tasks.diffusion.evaluation.clip_scorer import ClipScorer
    from tasks.diffusion.model import bases
    from tasks.diffusion.model.sampling import Sampling, sample

    base = bases.load(str(mini), torch.device("cpu"))
    sampling = Sampling(**base.card["sampling"])
    real = pictures.drawn(Objects(), 500, pictures.PROBE_SEED, full_caption=True)
    drawn = sample(base, real.captions, sampling)
    seen = AttributeClassifier.load(mini.parent / CLASSIFIER.name).predict(drawn, "objects")
    results = {
        f"alignment_{name}": sum(a[name] == b[name] for a, b in zip(seen, real.attributes, strict=True)) / len(real)
        for name in real.attributes[0]
    }
    results["kid_samples_x1000"] = kid(drawn, pictures.objects(500, pictures.PROBE_SEED + 1).pixels)
    scorer = ClipScorer(str(mini.parent / SCORER.name), SCORER.name, torch.device("cpu"))
    for name, held_out in (("icons", False), ("held_out_icons", True)):
        captions = icon_names(100, held_out)
        scores = scorer.embeddings(sample(base, captions, sampling)), scorer.caption_embeddings(captions)
        results[f"recall_at_1_of_100_{name}"] = recall_at_1(*scores, captions, 100)
    return results


def icon_names(count: int, held_out: bool) -> list[str]:
    """Captions that say the name alone, evenly spaced in the alphabet."""
    names = sorted({captions_of(icon.name, icon.style, "white")[0] for icon in icons() if icon.held_out == held_out})
    return names[:: len(names) // count][:count]
