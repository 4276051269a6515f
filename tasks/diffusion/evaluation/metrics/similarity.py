"""Similarity to the subject: cosine to held-out pictures of it in image features (as DINO; Ruiz et al. 2022, 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric, Measurement

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.diffusion.evaluation.inputs import MetricInputs
    from tasks.diffusion.evaluation.prompts import Prompt


@dataclass(frozen=True)
class Similarity(ImageMetric):
    """`ceiling`: the training pictures of the subject. `reconstruction`: those through the VAE."""

    name: str = "similarity"
    better: Literal["lower", "higher"] = "higher"
    unit: str = "cosine"
    meaning: str = "pictures of the subject's prompts to held-out pictures of the subject"
    needs: tuple[str, ...] = ("pictures",)

    def compute(self, inputs: MetricInputs) -> Measurement:
        return self.likeness(inputs.features, inputs.real.features, inputs.models.extractor.name, inputs.prompts)

    def likeness(
        self, generated: Tensor, real: dict[str, Tensor], extractor: str, prompts: Sequence[Prompt]
    ) -> Measurement:
        """The mean cosine of each picture to the reference, from features (n, d)."""
        values = mean_cosine(generated, real["reference"])
        ceiling, reconstruction = (
            float(mean_cosine(real[name], real["reference"]).mean()) for name in ("floor", "reconstruction")
        )
        return Measurement(
            self.mean(values, extractor, prompts, ceiling=ceiling, reconstruction=reconstruction), values.tolist()
        )


def mean_cosine(features: Tensor, reference: Tensor) -> Any:
    """Each row's mean cosine to the reference's rows, (n,), from features (n, d) and (m, d)."""
    from torch.nn.functional import normalize

    return (normalize(features, dim=1) @ normalize(reference, dim=1).T).mean(dim=1).numpy()
