"""A prepared DreamBooth task: the subject's pictures beside the base's own pictures of its class, and the figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tasks.base import Evaluation, Figure
from tasks.cache import cached
from tasks.diffusion.data.splits import Pictures
from tasks.diffusion.evaluation.evaluation import SHOWN, PictureEvaluation, derangement
from tasks.diffusion.evaluation.features import cached_features, features_of
from tasks.diffusion.evaluation.grid import save_pictures
from tasks.diffusion.evaluation.image_metrics import mean_figure
from tasks.diffusion.model.encoding import decode_latents, encode_pictures
from tasks.diffusion.model.noising import Noising, NoisyBatch, joined
from tasks.diffusion.model.sampling import sample
from tasks.diffusion.text_to_image import TextToImage
from tasks.shuffling import shuffled_indices

if TYPE_CHECKING:
    from tasks.diffusion.dreambooth import DreamBooth

CLASS_SEED = 2**40  # apart from the runs' seeds: of the class pictures, and added to a run's for their noise
LEAKAGE_SEED = 1


class SubjectDriven(TextToImage):
    """Each batch holds instance pictures and, where the prior is preserved, as many class pictures."""

    task: DreamBooth

    def __init__(self, task: DreamBooth, device: torch.device):
        super().__init__(task, device)
        self.prior: Noising | None = None
        if task.prior_preservation:
            self.prior = self.noising(self.class_pictures(), training=True)

    def class_pictures(self) -> Pictures:
        """What the base makes of the class prompt, kept by content."""
        prompts = [self.task.described_prompt] * self.task.num_class_images
        sampling = replace(self.sampling, seed=CLASS_SEED)
        key = {"base": self.revision, "prompts": prompts, "sampling": asdict(sampling)}

        def compute() -> tuple[dict[str, Tensor], None]:
            return {"pixels": sample(self.base, prompts, sampling, "class pictures")}, None

        return Pictures(cached("class-pictures", key, compute)[0]["pixels"], prompts)

    def _evaluation(self) -> SubjectEvaluation:
        return SubjectEvaluation(self.task, self.base, self.splits, self.sampling)

    def _facts(self) -> dict[str, Any]:
        task = self.task
        return super()._facts() | {
            "test_items": len(task.prompts()),
            "held_out_items": len(self.splits.test),
            "instance_prompt": task.subject_prompt,
            "class_prompt": task.described_prompt,
            "num_class_images": task.num_class_images if task.prior_preservation else None,
        }

    def batches(self, seed: int, start: int, size: int) -> Iterator[NoisyBatch]:
        step = start
        for batch in super().batches(seed, start, size):
            if self.prior is None:
                yield batch
            else:
                index = torch.tensor(shuffled_indices(seed + CLASS_SEED, step, size, len(self.prior)))
                of_class = self.prior.batch(index, seed + CLASS_SEED, step * size)
                yield joined(batch, of_class, self.task.prior_loss_weight)
            step += 1


class SubjectEvaluation(PictureEvaluation):
    """Likeness to kept pictures of the subject, agreement with the prompt, and what happened to everything else."""

    task: DreamBooth

    def __init__(self, task: DreamBooth, *parts: Any):
        super().__init__(task, *parts)
        self.wanted = task.prompts()
        self.class_prompts = [task.described_prompt] * len(self.wanted)
        self.settings |= {"prompts": [asdict(prompt) for prompt in self.wanted], "class": task.described_prompt}

    @property
    def prompts(self) -> list[str]:
        return [prompt.text for prompt in self.wanted]

    def measure(self, output: Path | None) -> Evaluation:
        pixels = sample(self.base, self.prompts, self.sampling, "sampling the subject's prompts")
        familiar_figures, familiar = self.familiar()
        items: dict[str, list] = {"prompt": self.prompts}
        figures = self._likeness(pixels, items) | {"clip_score": self._clip_score(pixels, items)}
        if self.wanted[0].attributes:
            figures["alignment"] = self._alignment(pixels, items)
        figures |= {"leakage": self._leakage()} | familiar_figures
        if output is not None:
            save_pictures(pixels[:SHOWN], output)
        rows = [{"item": i} | {name: column[i] for name, column in items.items()} for i in range(len(pixels))]
        return Evaluation(figures, rows, {"shown": pixels[:SHOWN], "familiar": familiar})

    def _likeness(self, pixels: Tensor, items: dict[str, list]) -> dict[str, Figure]:
        """Mean cosine of each picture to the kept ones; the ceiling is what the training pictures reach."""
        moments = encode_pictures(self.base.vae, self.splits.train.pixels)
        sets = {
            "generated": pixels,
            "kept": self.splits.test.pixels,
            "ceiling": self.splits.train.pixels,
            "reconstruction": decode_latents(self.base.vae, moments[:, 0]),
        }
        own = {name: features_of(self.extractor, part, self.base.device) for name, part in sets.items()}
        clip = {name: self.scorer.embeddings(part) for name, part in sets.items()}
        figures = {}
        for name, found, extractor in (
            ("similarity", own, self.extractor.name),
            ("clip_i", clip, self.scorer.name),
        ):
            values = likeness(found["generated"], found["kept"])
            real = {part: float(likeness(found[part], found["kept"]).mean()) for part in ("ceiling", "reconstruction")}
            figures[name] = mean_figure(values, "cosine", extractor, **real)
            items[name] = values.tolist()
        return figures

    def _clip_score(self, pixels: Tensor, items: dict[str, list]) -> Figure:
        described = [prompt.described for prompt in self.wanted]
        scores = self.scorer.scores(pixels, described)
        shuffled = self.scorer.scores(pixels, [described[i] for i in derangement(len(described))])
        kept = self.splits.test.pixels
        real = self.scorer.scores(kept, [self.task.described_prompt] * len(kept))
        items["clip_score"] = scores.tolist()
        others = {"ceiling": float(real.mean()), "shuffled": float(shuffled.mean())}
        return mean_figure(scores, "100 x cosine", self.scorer.name, **others)

    def _alignment(self, pixels: Tensor, items: dict[str, list]) -> Figure:
        hits = self.hits(pixels, [prompt.attributes for prompt in self.wanted], "objects")
        values = np.mean(list(hits.values()), axis=0)
        kept = self.splits.test
        wanted = [{"kind": self.wanted[0].attributes["kind"], "background": a["background"]} for a in kept.attributes]
        real = np.mean(list(self.hits(kept.pixels, wanted, "objects").values()))
        items["alignment"] = values.tolist()
        return mean_figure(values, "share", self.classifier.name, ceiling=float(real))

    def _leakage(self) -> Figure:
        sampling = replace(self.sampling, seed=self.sampling.seed + LEAKAGE_SEED)
        pixels = sample(self.base, self.class_prompts, sampling, "sampling the class prompt")
        kept = cached_features(self.extractor, self.splits.test.pixels, self.base.device)
        values = likeness(features_of(self.extractor, pixels, self.base.device), kept)
        return mean_figure(values, "cosine", self.extractor.name)


def likeness(pictures: Tensor, kept: Tensor) -> np.ndarray:
    """Each picture's mean cosine to the kept ones, (n,), from features (n, d) and (m, d) (Ruiz et al., section 4.2)."""
    return (normalize(pictures, dim=1) @ normalize(kept, dim=1).T).mean(dim=1).numpy()
