"""What the distances between sets of pictures share: a figure with an interval and its reference values."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tasks.diffusion.evaluation.metrics.image_metric import FEWEST_PICTURES, ImageMetric, Measurement

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.diffusion.evaluation.inputs import MetricInputs, RealPictures


@dataclass(frozen=True)
class DistanceMetric(ImageMetric):
    """A distance from the generated pictures to the reference pictures, in the features of `--task.features`.

    Beside it: `floor`, real pictures that are not in the reference, against it (drawn data: the test's captions
    redrawn), and `reconstruction`, those through the VAE. A `biased` distance falls with the number of pictures, so it
    has both only if they are as many as the generated ones.
    """

    version: int = 2
    biased: ClassVar[bool] = True

    @abstractmethod
    def distance(self, first: Tensor, second: Tensor) -> float:
        """The distance between two feature sets (n, d) and (m, d)."""

    def compute(self, inputs: MetricInputs) -> Measurement:
        from tasks.diffusion.evaluation.intervals import jackknife_error, jackknife_interval, without_groups

        generated, reference = inputs.features, inputs.real.features("reference")
        left_out = without_groups(self.distance, generated, reference)
        value, extractor = self.distance(generated, reference), inputs.models.extractor.name
        low, high = jackknife_interval(value, left_out)
        references = self._references(inputs.real, len(generated))
        figure = self.figure(value, len(generated), extractor, low, high, **references)
        return Measurement(figure, sample=left_out, interval=jackknife_interval, error=jackknife_error)

    def _references(self, real: RealPictures, generated: int) -> dict[str, float]:
        """`floor` and `reconstruction`, unless there are too few real pictures for them."""
        count = len(real.splits.floor)
        if count < FEWEST_PICTURES or (self.biased and count != generated):
            return {}
        return {
            name: self.distance(real.features("floor", decoded), real.features("reference"))
            for name, decoded in (("floor", False), ("reconstruction", True))
        }
