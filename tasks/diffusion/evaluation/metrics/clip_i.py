"""CLIP-I: similarity to the subject in CLIP's image embeddings (Ruiz et al. 2022, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tasks.diffusion.evaluation.metrics.image_metric import Measurement
from tasks.diffusion.evaluation.metrics.similarity import Similarity

if TYPE_CHECKING:
    from tasks.diffusion.evaluation.inputs import MetricInputs


@dataclass(frozen=True)
class ClipImageSimilarity(Similarity):
    name: str = "clip_i"
    meaning: str = "the same with a CLIP's image embeddings (CLIP-I)"
    packages: ClassVar[tuple[str, ...]] = (*Similarity.packages, "transformers")

    def compute(self, inputs: MetricInputs) -> Measurement:
        return self.likeness(inputs.embeddings, inputs.real.embeddings, inputs.models.scorer.name, inputs)
