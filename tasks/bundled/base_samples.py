"""What the bundled Stable Diffusion draws untuned: figures for its card, and a sheet of samples."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tasks.bundled import pictures
from tasks.bundled.bundled_bases import CLASSIFIER, SCORER, STABLE_DIFFUSION
from tasks.bundled.icons import captions_of, icons
from tasks.bundled.recipes.contrastive import recall_at_1
from tasks.diffusion.evaluation.attributes import AttributeClassifier
from tasks.diffusion.evaluation.clip_scorer import ClipScorer
from tasks.diffusion.model import bases
from tasks.diffusion.model.sampling import Sampling, sample
from tasks.diffusion.model.stable_diffusion import StableDiffusion
from tasks.diffusion.worlds.objects import Objects

CPU = torch.device("cpu")
SHEET = "samples.png"


def figures(target: Path) -> dict[str, float]:
    """What samples show, at the card's settings; `target` is the folder of all parts, where SHEET is written.

    Of 500 objects the attributes that the classifier finds, and the KID; of 100 names of icons, R@1 by the scorer.
    """
    from tasks.bundled.recipes.vae import kid

    base = bases.load(str(target / STABLE_DIFFUSION), CPU)
    write_sheet(base, target / SHEET)
    real = pictures.drawn(Objects(), 500, pictures.PROBE_SEED, full_caption=True)
    drawn = samples(base, real.captions)
    seen = AttributeClassifier.load(target / CLASSIFIER.name).predict(drawn, "objects")
    results = {
        f"alignment_{name}": sum(a[name] == b[name] for a, b in zip(seen, real.attributes, strict=True)) / len(real)
        for name in real.attributes[0]
    }
    results["kid_samples_x1000"] = kid(drawn, pictures.objects(500, pictures.PROBE_SEED + 1).pixels)
    scorer = ClipScorer(str(target / SCORER.name), SCORER.name, CPU)
    for name, held_out in (("icons", False), ("held_out_icons", True)):
        captions = icon_names(100, held_out)
        scores = scorer.embeddings(samples(base, captions)), scorer.caption_embeddings(captions)
        results[f"recall_at_1_of_100_{name}"] = recall_at_1(*scores, captions, 100)
    return results


def write_sheet(base: StableDiffusion, file: Path) -> None:
    """8 x 8 samples: three rows of objects, four of icons' names, one of names held out from training."""
    drawn = pictures.drawn(Objects(), 24, pictures.PROBE_SEED, full_caption=True)
    sheet = samples(base, [*drawn.captions, *icon_names(32, False), *icon_names(8, True)])
    rows = torch.cat([torch.cat([*row], dim=2) for row in sheet.split(8)], dim=1)
    Image.fromarray(rows.permute(1, 2, 0).numpy()).save(file)


def samples(base: StableDiffusion, captions: list[str]) -> Tensor:
    return sample(base, captions, Sampling(**base.card["sampling"]))


def icon_names(count: int, held_out: bool) -> list[str]:
    """Captions that say the name alone, evenly spaced in the alphabet."""
    names = sorted({captions_of(icon.name, icon.style, "white")[0] for icon in icons() if icon.held_out == held_out})
    return names[:: len(names) // count][:count]
