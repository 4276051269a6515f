"""The diffusion loss on held-out pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric, Measurement

if TYPE_CHECKING:
    from tasks.diffusion.evaluation.inputs import MetricInputs


@dataclass(frozen=True)
class ValidationLoss(ImageMetric):
    name: str = "validation_loss"
    better: Literal["lower", "higher"] = "lower"
    unit: str = "mean squared error"
    meaning: str = "loss on held-out pictures with fixed noise"
    needs: tuple[str, ...] = ("validation pictures",)

    def compute(self, inputs: MetricInputs) -> Measurement:
        count = len(inputs.real.splits.validation)
        return Measurement(self.figure(inputs.validation_loss(inputs.seed), count, "the UNet's own loss, fixed noise"))
