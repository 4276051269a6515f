"""Drift: how far fine-tuning changes the pictures of prompts from the base's pretraining."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric, Measurement

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.diffusion.evaluation.inputs import MetricInputs
    from tasks.diffusion.evaluation.models import EvaluationModels


@dataclass(frozen=True)
class Drift(ImageMetric):
    """1 - cosine between features of the base's picture and of the tuned model's, from the same prompt and noise."""

    name: str = "drift"
    better: Literal["lower", "higher"] = "lower"
    unit: str = "1 - cosine"
    meaning: str = "change of the pictures of prompts from the base's pretraining"
    needs: tuple[str, ...] = ("base pictures",)

    def compute(self, inputs: MetricInputs) -> Measurement:
        return Measurement(artifacts={"base_features": inputs.base_features})

    def compare(
        self, models: EvaluationModels, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
    ) -> Measurement:
        from torch.nn.functional import cosine_similarity

        cosines = cosine_similarity(before["base_features"], after["base_features"])
        return self.mean((1 - cosines.clamp(-1, 1)).numpy(), models.extractor.name, base=0.0)
