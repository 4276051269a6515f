"""Alignment with the base's own prompts: whether the tuned model still draws what the base could draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.diffusion.evaluation.metrics.alignment import shares_shown
from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric, Measurement

if TYPE_CHECKING:
    from tasks.diffusion.evaluation.inputs import MetricInputs


@dataclass(frozen=True)
class BaseAlignment(ImageMetric):
    name: str = "base_alignment"
    better: Literal["lower", "higher"] = "higher"
    unit: str = "share"
    meaning: str = "attributes of prompts from the base's pretraining found in the picture"
    needs: tuple[str, ...] = ("base attributes",)

    def compute(self, inputs: MetricInputs) -> Measurement:
        wanted = [prompt.attributes for prompt in inputs.base_prompts]
        shown = inputs.attributes_shown("base pictures", "objects")
        return self.mean(shares_shown(shown, wanted, list(wanted[0])), inputs.models.classifier.name)
