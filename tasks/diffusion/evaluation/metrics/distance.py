"""What the distances between sets of pictures share: a figure with an interval and its reference values."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric, Measurement

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.diffusion.evaluation.inputs import MetricInputs


@dataclass(frozen=True)
class DistanceMetric(ImageMetric):
    """A distance from the generated pictures to the reference pictures, in the features of `--task.features`.

    Beside it: `floor`, other real pictures against the reference, and `reconstruction`, those through the VAE.
    """

    @abstractmethod
    def distance(self, first: Tensor, second: Tensor) -> float:
        """The distance between two feature sets (n, d) and (m, d)."""

    def compute(self, inputs: MetricInputs) -> Measurement:
        from tasks.diffusion.evaluation.intervals import jackknife

        generated, real = inputs.features, inputs.real.features
        low, high = jackknife(self.distance, generated, real["reference"])
        figure = self.figure(
            self.distance(generated, real["reference"]),
            len(generated),
            inputs.models.extractor.name,
            low,
            high,
            floor=self.distance(real["floor"], real["reference"]),
            reconstruction=self.distance(real["reconstruction"], real["reference"]),
        )
        return Measurement(figure)
