"""Vendi score: how many different pictures there are among the generated ones (Friedman & Dieng 2023, TMLR)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.diffusion.evaluation.metrics.image_metric import ImageMetric, Measurement

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.diffusion.evaluation.inputs import MetricInputs


@dataclass(frozen=True)
class VendiScore(ImageMetric):
    """The diversity of the pictures as a number of pictures: 1 if all are the same, n if none resembles another.

    `ceiling` is that of the test's real pictures through the VAE, if they are as many: the score rises with n.
    """

    name: str = "vendi"
    better: Literal["lower", "higher"] = "higher"
    unit: str = "pictures"
    meaning: str = "effective number of distinct pictures among the generated ones (Vendi score); it rises with n"
    needs: tuple[str, ...] = ("10 prompts", "image features")

    def compute(self, inputs: MetricInputs) -> Measurement:
        from tasks.diffusion.evaluation.intervals import jackknife_error, jackknife_interval, without_groups

        features, real = inputs.features, inputs.real.features("test", decoded=True)
        value = vendi_score(features)
        left_out = without_groups(lambda first, _: vendi_score(first), features, features)
        low, high = jackknife_interval(value, left_out)
        references = {"ceiling": vendi_score(real)} if len(real) == len(features) else {}
        figure = self.figure(value, len(features), inputs.models.extractor.name, low, high, **references)
        return Measurement(figure, sample=left_out, interval=jackknife_interval, error=jackknife_error)


def vendi_score(features: Tensor) -> float:
    """The exponential of the entropy of the eigenvalues of K / n, for the cosine similarities K of features (n, d)."""
    import torch

    directions = torch.nn.functional.normalize(features.double())
    small = directions.T @ directions if len(features) > features.shape[1] else directions @ directions.T
    shares = torch.linalg.eigvalsh(small / len(features)).clamp_min(0)
    return torch.special.entr(shares).sum().exp().item()
