"""Leakage of the subject into its class: whether every member of the class now looks like the subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric, Measurement
from tasks.diffusion.evaluation.metrics.similarity import mean_cosine

if TYPE_CHECKING:
    from tasks.diffusion.evaluation.inputs import MetricInputs


@dataclass(frozen=True)
class Leakage(ImageMetric):
    """The similarity to the subject of pictures of the class prompt, which does not name the subject."""

    name: str = "leakage"
    better: Literal["lower", "higher"] = "lower"
    unit: str = "cosine"
    meaning: str = "pictures of the class prompt to the subject: the class loses its variety"
    needs: tuple[str, ...] = ("pictures", "class prompt")

    def compute(self, inputs: MetricInputs) -> Measurement:
        values = mean_cosine(inputs.class_features, inputs.real.features("reference"))
        return self.mean(values, inputs.models.extractor.name)
