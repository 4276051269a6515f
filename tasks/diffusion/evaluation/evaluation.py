"""The evaluation of a diffusion task: what is sampled, which figures it gives, the grid of before and after."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tasks.base import Evaluation, Figure
from tasks.diffusion.data.splits import Splits
from tasks.diffusion.evaluation import image_metrics
from tasks.diffusion.evaluation.attributes import AttributeClassifier
from tasks.diffusion.evaluation.features import cached_features, extractor_of, features_of
from tasks.diffusion.evaluation.grid import save_before_after, save_pictures
from tasks.diffusion.model import bases
from tasks.diffusion.model.encoding import decode_latents, encode_pictures
from tasks.diffusion.model.sampling import Sampling, sample
from tasks.diffusion.worlds.drawing import SIZE, Attributes
from tasks.diffusion.worlds.objects import Objects

if TYPE_CHECKING:
    from tasks.diffusion.dreambooth import DreamBooth
    from tasks.diffusion.pokemon import Pokemon

SHOWN = 8  # pictures of the grid
HEADLINE_ATTRIBUTES = ("eyes", "head", "limb")  # colour and background transfer from the base
OBJECT_STREAM = 5  # of the base's own prompts; apart from the streams in data.py and in the bundled recipes
GENERAL_PROMPTS = [
    "a red car parked in a street", "a bowl of fruit on a wooden table", "a lighthouse on a rocky coast",
    "a portrait of an old man with a beard", "a snowy mountain under a clear sky", "a cup of coffee and a book",
    "a city at night seen from above", "a white cat sleeping on a sofa", "a sailing boat on a calm lake",
    "an old stone bridge over a river", "a field of sunflowers in summer", "a train arriving at a station",
    "a vase of tulips by a window", "a person riding a bicycle in the rain", "a wooden cabin in a forest",
    "a plate of pasta with basil",
]  # fmt: skip


class PictureEvaluation(ABC):
    """The instruments that every diffusion task is measured with, and the drift on what the base knew before."""

    def __init__(self, task: Pokemon | DreamBooth, base: bases.StableDiffusion, splits: Splits, sampling: Sampling):
        self.task, self.base, self.splits, self.sampling = task, base, splits, sampling
        self.settings: dict[str, Any] = asdict(sampling) | {
            "features": task.features,
            "scorer": task.scorer,
            "drift_items": task.drift_items,
            "version": 1,
        }
        self.extractor = extractor_of(task.features, base.device)
        bundled = str(bases.BUNDLED / "scorer")
        folder, name = (bundled, "bundled-clip-scorer") if task.scorer == "bundled" else (task.scorer, task.scorer)
        self.scorer = image_metrics.ClipScorer(folder, name, base.device)
        self.classifier = AttributeClassifier.load(bases.BUNDLED / "classifier").to(base.device)
        self.base_prompts, self.base_attributes = _base_prompts(task.base, task.drift_items or 0)

    @abstractmethod
    def measure(self, output: Path | None) -> Evaluation:
        """Measure the model as it is; `shown` pictures and `familiar` features go to the artifacts."""

    def familiar(self) -> tuple[dict[str, Figure], Tensor]:
        """Figures of the pictures of the base's own prompts, and their features (n, d)."""
        pixels = sample(self.base, self.base_prompts, self.sampling, "sampling the base's own prompts")
        figures = {"base_alignment": self._base_alignment(pixels)} if self.base_attributes else {}
        return figures, features_of(self.extractor, pixels, self.base.device)

    def _base_alignment(self, familiar: Tensor) -> Figure:
        hits = self.hits(familiar, self.base_attributes, "objects")
        return image_metrics.mean_figure(np.mean(list(hits.values()), axis=0), "share", self.classifier.name)

    def hits(self, pixels: Tensor, wanted: list[Attributes], world: str = "creatures") -> dict[str, np.ndarray]:
        """1 where the picture shows the wanted value, by attribute, each (n,)."""
        if pixels.shape[-1] != SIZE:  # the classifier knows the worlds at the size that they are drawn in
            resized = torch.nn.functional.interpolate(pixels.float(), size=(SIZE, SIZE), mode="area")
            pixels = resized.round().to(torch.uint8)
        seen = self.classifier.predict(pixels.to(self.base.device), world)
        return {
            name: np.array([a[name] == b[name] for a, b in zip(seen, wanted, strict=True)], float) for name in wanted[0]
        }

    def finish(self, tuned: Evaluation, base: Evaluation, output: Path | None) -> Evaluation:
        if "familiar" in tuned.artifacts:
            before, after = base.artifacts["familiar"], tuned.artifacts["familiar"]
            moved = 1 - torch.nn.functional.cosine_similarity(before, after).clamp(-1, 1)
            drift = image_metrics.mean_figure(moved.numpy(), "1 - cosine", self.extractor.name, base=0.0)
            tuned.figures["drift"] = drift
        if output is not None and "shown" in tuned.artifacts:
            shown = {"real": self.splits.test.pixels[:SHOWN], "base": base.artifacts["shown"]}
            shown["tuned"] = tuned.artifacts["shown"]
            save_before_after(shown, self.prompts[:SHOWN], output / "before_after.png")
        return tuned

    @property
    def prompts(self) -> list[str]:
        """What the task's own pictures are sampled from."""
        return self.splits.test.captions


class ImageEvaluation(PictureEvaluation):
    """Text-to-image: distances to real pictures and agreement with the prompts.

    Real pictures' figures (floors, ceilings) are computed once.
    """

    def __init__(self, task: Pokemon | DreamBooth, base: bases.StableDiffusion, splits: Splits, sampling: Sampling):
        super().__init__(task, base, splits, sampling)
        self._real: dict[str, Tensor] | None = None

    def measure(self, output: Path | None) -> Evaluation:
        found = self._test_pictures(output) if self.prompts else Evaluation({})
        if self.base_prompts:
            familiar_figures, found.artifacts["familiar"] = self.familiar()
            found.figures |= familiar_figures
        return found

    def _test_pictures(self, output: Path | None) -> Evaluation:
        pixels = sample(self.base, self.prompts, self.sampling, "sampling test prompts")
        figures, items = self._distances(pixels), self._scores(pixels)
        figures |= items.pop("figures")
        if self.splits.test.attributes:
            self._add_alignment(pixels, figures, items)
        if output is not None:
            save_pictures(pixels[:SHOWN], output)
        rows = [{"item": i} | {name: column[i] for name, column in items.items()} for i in range(len(pixels))]
        return Evaluation(figures, rows, {"shown": pixels[:SHOWN]})

    def _real_features(self) -> dict[str, Tensor]:
        """Features of the reference, of other real pictures, and of those through the VAE, each (n, d)."""
        if self._real is None:
            reference, floor = self.splits.reference.pixels, self.splits.floor.pixels
            moments = encode_pictures(self.base.vae, floor)
            through = decode_latents(self.base.vae, moments[:, 0])
            sets = {"reference": reference, "floor": floor, "reconstruction": through}
            self._real = {n: cached_features(self.extractor, p, self.base.device) for n, p in sets.items()}
        return self._real

    def _distances(self, pixels: Tensor) -> dict[str, Figure]:
        if len(pixels) < image_metrics.GROUPS:  # too few for an interval, and for a distance that means anything
            return {}
        sets = {"generated": features_of(self.extractor, pixels, self.base.device)} | self._real_features()
        name = self.extractor.name
        if name.startswith("clip:"):
            measure = image_metrics.mean_discrepancy
            return {"cmmd": image_metrics.distance_figure(measure, sets, "x1000", name)}
        return {
            "kid": image_metrics.distance_figure(image_metrics.kernel_distance, sets, "x1000", name),
            "fid": image_metrics.distance_figure(image_metrics.frechet_distance, sets, "", name),
        }

    def _scores(self, pixels: Tensor) -> dict[str, Any]:
        test = self.splits.test
        scores = self.scorer.scores(pixels, test.captions)
        shuffled = [test.captions[i] for i in derangement(len(test))]
        figure = image_metrics.mean_figure(
            scores,
            "100 x cosine",
            self.scorer.name,
            ceiling=float(self.scorer.scores(test.pixels, test.captions).mean()),
            shuffled=float(self.scorer.scores(pixels, shuffled).mean()),
        )
        return {"figures": {"clip_score": figure}, "prompt": test.captions, "clip_score": scores.tolist()}

    def _add_alignment(self, pixels: Tensor, figures: dict[str, Figure], items: dict[str, Any]) -> None:
        wanted = self.splits.test.attributes
        order = derangement(len(wanted))
        hits = self.hits(pixels, wanted)
        real = self.hits(self.splits.test.pixels, wanted)
        shuffled = self.hits(pixels, [wanted[i] for i in order])
        groups = {"alignment": HEADLINE_ATTRIBUTES} | {f"alignment_{name}": (name,) for name in hits}
        for name, members in groups.items():
            values, ceiling, chance = (
                np.mean([found[member] for member in members], axis=0) for found in (hits, real, shuffled)
            )
            others = {"ceiling": float(ceiling.mean()), "shuffled": float(chance.mean())}
            figures[name] = image_metrics.mean_figure(values, "share", self.classifier.name, **others)
            items[name] = values.tolist()


def _base_prompts(base: str, count: int) -> tuple[list[str], list[Attributes]]:
    """What the base was pretrained on: objects for `mini`, general scenes for any other."""
    if base != "mini":
        return GENERAL_PROMPTS[:count], []
    drawings = [Objects().example(OBJECT_STREAM, index, full_caption=True) for index in range(count)]
    return [drawing.caption for drawing in drawings], [drawing.attributes for drawing in drawings]


def derangement(count: int) -> np.ndarray:
    """An order in which no item keeps its place (a rotation of a fixed permutation's cycle)."""
    order = np.random.default_rng(0).permutation(count)
    shuffled = np.empty(count, int)
    shuffled[order] = np.roll(order, 1)
    return shuffled
