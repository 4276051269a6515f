"""CLIP score (Hessel et al. 2021); for a subject's pictures against its class, CLIP-T (Ruiz et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric, Measurement

if TYPE_CHECKING:
    from tasks.diffusion.evaluation.inputs import MetricInputs


@dataclass(frozen=True)
class ClipScore(ImageMetric):
    """`ceiling`: the test's pictures through the VAE, with their own captions.

    `shuffled`: the generated pictures with other captions.
    """

    name: str = "clip_score"
    better: Literal["lower", "higher"] = "higher"
    unit: str = "100 x cosine"
    meaning: str = "agreement of picture and prompt (CLIP score)"
    needs: tuple[str, ...] = ("pictures",)
    version: int = 2
    packages: ClassVar[tuple[str, ...]] = (*ImageMetric.packages, "transformers")

    def compute(self, inputs: MetricInputs) -> Measurement:
        from tasks.diffusion.evaluation.intervals import derangement

        scorer, captions = inputs.models.scorer, inputs.captions
        scores = scorer.scores(inputs.pictures, captions)
        others = [captions[i] for i in derangement(len(captions))]
        real = scorer.scores(inputs.real.pixels("test", decoded=True), inputs.real.captions)
        references = {
            "ceiling": float(real.mean()),
            "shuffled": float(scorer.scores(inputs.pictures, others).mean()),
        }
        return self.mean(scores, scorer.name, inputs.prompts, **references)
