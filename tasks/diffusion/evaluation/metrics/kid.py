"""Kernel Inception distance (KID; Binkowski et al. 2018, section 4), by torchmetrics."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tasks.diffusion.evaluation.metrics.distance import DistanceMetric

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class KernelDistance(DistanceMetric):
    name: str = "kid"
    better: Literal["lower", "higher"] = "lower"
    unit: str = "x1000"
    meaning: str = "kernel distance to real pictures (KID)"
    needs: tuple[str, ...] = ("10 pictures", "image features")
    packages: ClassVar[tuple[str, ...]] = (*DistanceMetric.packages, "torchmetrics")

    def distance(self, first: Tensor, second: Tensor) -> float:
        return kernel_distance(first, second)


def kernel_distance(first: Tensor, second: Tensor) -> float:
    """KID x1000 of two feature sets (n, d), (m, d): the unbiased estimate over min(n, m) samples of each."""
    import torch
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(len(first), len(second))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the memory that all features take
        metric = KernelInceptionDistance(feature=precomputed(first.shape[1]), subsets=1, subset_size=size)
    torch.manual_seed(0)
    metric.update(second, real=True)
    metric.update(first, real=False)
    return 1000 * metric.compute()[0].item()


def precomputed(num_features: int) -> Any:
    """A feature extractor for torchmetrics that takes features (n, d) instead of pictures."""
    from torch import nn

    identity: Any = nn.Identity()
    identity.num_features = num_features
    return identity
