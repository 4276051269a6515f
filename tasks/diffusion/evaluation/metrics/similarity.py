"""Similarity to the subject: cosine to held-out pictures of it in image features (as DINO; Ruiz et al. 2022, 4.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric, Measurement

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.diffusion.evaluation.inputs import MetricInputs


@dataclass(frozen=True)
class Similarity(ImageMetric):
    """`ceiling`: other real pictures of the subject (the floor's, else those of the training), through the VAE."""

    name: str = "similarity"
    better: Literal["lower", "higher"] = "higher"
    unit: str = "cosine"
    meaning: str = "pictures of the subject's prompts to held-out pictures of the subject"
    needs: tuple[str, ...] = ("pictures",)
    version: int = 2

    def compute(self, inputs: MetricInputs) -> Measurement:
        extractor = inputs.models.extractor.name
        return self.likeness(inputs.features, inputs.real.features, extractor, inputs)

    def likeness(
        self, generated: Tensor, real: Callable[..., Tensor], extractor: str, inputs: MetricInputs
    ) -> Measurement:
        """The mean cosine of each picture to the reference; `real` gives the features (n, d) of a split."""
        others = "floor" if len(inputs.real.splits.floor) else "train"
        values = mean_cosine(generated, real("reference"))
        ceiling = mean_cosine(real(others, decoded=True), real("reference"))
        return self.mean(values, extractor, inputs.prompts, ceiling=float(ceiling.mean()))


def mean_cosine(features: Tensor, reference: Tensor) -> Any:
    """Each row's mean cosine to the reference's rows, (n,), from features (n, d) and (m, d)."""
    from torch.nn.functional import normalize

    return (normalize(features, dim=1) @ normalize(reference, dim=1).T).mean(dim=1).numpy()
