"""CLIP maximum mean discrepancy (CMMD; Jayasumana et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.diffusion.evaluation.metrics.distance import DistanceMetric

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ClipDiscrepancy(DistanceMetric):
    name: str = "cmmd"
    better: Literal["lower", "higher"] = "lower"
    unit: str = "x1000"
    meaning: str = "kernel distance of CLIP embeddings to real pictures (CMMD)"
    needs: tuple[str, ...] = ("10 pictures", "CLIP features")

    def distance(self, first: Tensor, second: Tensor) -> float:
        return mean_discrepancy(first, second)


def mean_discrepancy(first: Tensor, second: Tensor, bandwidth: float = 10.0) -> float:
    """Squared MMD x1000 of two sets of CLIP embeddings, scaled to unit length, with a Gaussian kernel."""
    import torch
    from torch.nn.functional import normalize

    a, b = (normalize(x.double(), dim=1) for x in (first, second))

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (-torch.cdist(x, y).square() / (2 * bandwidth**2)).exp().mean()

    return 1000 * (kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)).item()
