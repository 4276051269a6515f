"""Compare the models that measure pictures with each other: `python -m tasks.bundled.validate`, 3 minutes on one core.

Three judges say which attributes a picture shows: the attribute classifier; the CLIP scorer, by the caption that it
prefers of all; and the feature extractor, by the nearest of other drawings. They were trained apart, on other pictures,
and two of them on other tasks. A judge that is right about drawings alone would part with the others on pictures
through the VAE or on the base's samples. What the extractor does not find, KID and FID hardly see.
"""

import itertools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from adapters.bounds import bounded
from experiments.cli.errors import command, stop
from experiments.cli.parser import parse_options
from tasks.bundled import pictures
from tasks.bundled.bundled_bases import CLASSIFIER, SCORER, STABLE_DIFFUSION
from tasks.diffusion.evaluation.attributes import AttributeClassifier, agreement
from tasks.diffusion.evaluation.clip_scorer import ClipScorer
from tasks.diffusion.evaluation.features import EfficientNetLite0, features_of
from tasks.diffusion.model import bases
from tasks.diffusion.model.sampling import Sampling, sample
from tasks.diffusion.worlds.drawing import Attributes
from tasks.diffusion.worlds.objects import Objects

HERE = Path(__file__).parent
CPU = torch.device("cpu")
NEIGHBOURS = 2000  # drawings to find the nearest of


def validate(target: Path, count: int) -> dict:
    """What each judge finds in `count` drawings, in the same through the VAE, and in samples from their captions.

    By kind of picture: `found`, the share of pictures that show the caption's value, by judge and attribute; and
    `agreement`, the share in which the classifier finds what another judge finds.
    """
    base = bases.load(str(target / STABLE_DIFFUSION), CPU)
    real = pictures.drawn(Objects(), count, pictures.PROBE_SEED, full_caption=True)
    sampling = base.card["sampling"]
    kinds = {
        "drawn": real.pixels,
        "through the VAE": base.decode_latents(base.encode_images(real.pixels)[:, 0]),
        "sampled": sample(base, real.captions, Sampling(**sampling)),
    }
    judges = Judges(target)
    judged = {kind: judges.attributes(pixels) for kind, pixels in kinds.items()}
    return {"n": count, "sampling": sampling} | {
        kind: {
            "found": {judge: agreement(seen, real.attributes) for judge, seen in views.items()},
            "agreement": {judge: agreement(views[judge], views["classifier"]) for judge in ("scorer", "extractor")},
        }
        for kind, views in judged.items()
    }


class Judges:
    """The bundled classifier and scorer in the folder `target`, and the feature extractor."""

    def __init__(self, target: Path):
        world = Objects()
        self.classifier = AttributeClassifier.load(target / CLASSIFIER.name)
        self.scorer = ClipScorer(str(target / SCORER.name), SCORER.name, CPU)
        names = world.attributes.keys()
        self.combinations = [
            dict(zip(names, values, strict=True)) for values in itertools.product(*world.attributes.values())
        ]
        self.captions = self.scorer.caption_embeddings(
            [world.captions(attributes)[0] for attributes in self.combinations]
        )
        self.extractor = EfficientNetLite0()
        self.neighbours = pictures.objects(NEIGHBOURS, pictures.PROBE_SEED + 1)
        self.features = features_of(self.extractor, self.neighbours.pixels, CPU)

    def attributes(self, pixels: Tensor) -> dict[str, list[Attributes]]:
        """What each judge finds in pictures uint8 (n, 3, height, width)."""
        preferred = _nearest(self.scorer.embeddings(pixels), self.captions)
        nearest = _nearest(features_of(self.extractor, pixels, CPU), self.features)
        return {
            "classifier": self.classifier.predict(pixels, "objects"),
            "scorer": [self.combinations[i] for i in preferred],
            "extractor": [self.neighbours.attributes[i] for i in nearest],
        }


def _nearest(features: Tensor, others: Tensor) -> list[int]:
    """The row of `others` (m, d) with the largest cosine to each row of `features` (n, d)."""
    return (normalize(features, dim=1) @ normalize(others, dim=1).T).argmax(dim=1).tolist()


@dataclass(frozen=True)
class ValidateOptions:
    """Compare the bundled classifier with the CLIP scorer and the feature extractor, and write it to figures.json."""

    target: Path = HERE
    """Folder with the bundled parts."""
    items: int = bounded(500, at_least=1, at_most=10_000)
    """Number of pictures of each kind."""


def main() -> None:
    options = parse_options(ValidateOptions, sys.argv[1:], "python -m tasks.bundled.validate")
    parts = (STABLE_DIFFUSION, CLASSIFIER.name, SCORER.name)
    missing = [name for name in parts if not (options.target / name).is_dir()]
    if missing:
        stop(f"{options.target} has no {' and no '.join(missing)}: build them with python -m tasks.bundled.build")
    figures = validate(options.target, options.items)
    file = options.target / "figures.json"
    others = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(others | {"validation": figures}, indent=2, sort_keys=True) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    command(main)
