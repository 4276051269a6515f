"""What the bundled Stable Diffusion draws untuned: figures for its card, and a sheet of samples."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from tasks.bundled import pictures
from tasks.bundled.bundled_bases import CLASSIFIER, SCORER, STABLE_DIFFUSION
from tasks.bundled.icon_pictures import icon_pictures
from tasks.bundled.icons import held_out_names, unet_names
from tasks.bundled.recipes.contrastive import recall_at_1
from tasks.bundled.recipes.vae import kid
from tasks.diffusion.evaluation.attributes import AttributeClassifier, agreement
from tasks.diffusion.evaluation.clip_scorer import ClipScorer
from tasks.diffusion.model import bases
from tasks.diffusion.model.sampling import Sampling, sample
from tasks.diffusion.model.stable_diffusion import StableDiffusion
from tasks.diffusion.worlds.objects import Objects
from tasks.evenly_spaced import evenly_spaced

CPU = torch.device("cpu")
SHEET = "samples.png"
NAMES = 100  # of icons, among which the scorer chooses


def load_base(target: Path) -> StableDiffusion:
    """The base in `target`, the folder of all parts."""
    return bases.load(str(target / STABLE_DIFFUSION), CPU)


def figures(base: StableDiffusion, target: Path) -> dict[str, Any]:
    """What samples show, at the card's settings, to the scorer and the classifier in `target`.

    Attributes that the classifier finds in 500 objects, and their KID; R@1 by the scorer of 100 names of icons, beside
    that of real pictures of the same names.
    """
    real = pictures.drawn(Objects(), 500, pictures.PROBE_SEED, full_caption=True)
    sampled = samples(base, real.captions)
    found = AttributeClassifier.load(target / CLASSIFIER.name).predict(sampled, "objects")
    shares = agreement(found, real.attributes)
    results: dict[str, Any] = {"sampling": base.card["sampling"]}
    results |= {f"alignment_{name}": share for name, share in shares.items()}
    results["kid_samples_x1000"] = kid(sampled, pictures.objects(500, pictures.PROBE_SEED + 1).pixels)
    scorer = ClipScorer(str(target / SCORER.name), SCORER.name, CPU)
    for name, held_out in (("icons", False), ("held_out_icons", True)):
        icons = named_icons(NAMES, held_out)
        text = scorer.caption_embeddings(icons.captions)
        for kind, pixels in (("samples", samples(base, icons.captions)), ("real", icons.pixels)):
            recall = recall_at_1(scorer.embeddings(pixels), text, icons.captions, NAMES)
            results[f"recall_at_1_of_{NAMES}_{kind}_{name}"] = recall
    return results


def write_sheet(base: StableDiffusion, target: Path) -> None:
    """SHEET, 8 x 8 samples: three rows of objects, four of icons' names, one of names held out from training."""
    objects = pictures.drawn(Objects(), 24, pictures.PROBE_SEED, full_caption=True)
    sheet = samples(base, [*objects.captions, *named_icons(32, False).captions, *named_icons(8, True).captions])
    rows = torch.cat([torch.cat([*row], dim=2) for row in sheet.split(8)], dim=1)
    Image.fromarray(rows.permute(1, 2, 0).numpy()).save(target / SHEET)


def samples(base: StableDiffusion, captions: list[str]) -> Tensor:
    return sample(base, captions, Sampling(**base.card["sampling"]))


def named_icons(count: int, held_out: bool) -> pictures.PictureSet:
    """New pictures of `count` names, evenly spaced in the alphabet, with captions that say the name alone."""
    every = icon_pictures(held_out_names() if held_out else unet_names(), pictures.PROBE_SEED, named=True)
    numbers = {caption: i for i, caption in enumerate(every.captions)}  # one picture of each name
    chosen = [numbers[caption] for caption in evenly_spaced(sorted(numbers), count)]
    return pictures.PictureSet(every.pixels[chosen], [every.captions[i] for i in chosen], [{}] * count)
