"""Kernel Inception distance (KID; Binkowski et al. 2018, section 4), by torchmetrics."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tasks.diffusion.evaluation.metrics.distance import DistanceMetric

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.diffusion.evaluation.inputs import MetricInputs
    from tasks.diffusion.evaluation.metrics.image_metric import Measurement


@dataclass(frozen=True)
class KernelDistance(DistanceMetric):
    name: str = "kid"
    better: Literal["lower", "higher"] = "lower"
    unit: str = "x1000"
    meaning: str = "kernel distance to real pictures (KID)"
    needs: tuple[str, ...] = ("10 pictures", "image features")
    packages: ClassVar[tuple[str, ...]] = (*DistanceMetric.packages, "torchmetrics")
    biased: ClassVar[bool] = False

    def distance(self, first: Tensor, second: Tensor) -> float:
        return kernel_distance(first, second)

    def compute(self, inputs: MetricInputs) -> Measurement:
        contributions = kernel_contributions(inputs.features, inputs.real.features("reference"))
        return replace(super().compute(inputs), item_values=contributions.tolist())


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


def kernel_contributions(first: Tensor, second: Tensor) -> Any:
    """Each picture's share in KID x1000 of all of `first` (n, d) against `second` (m, d), as an array (n,).

    KID plus the picture's influence on it, twice its kernel mean to the other pictures less twice that to `second`,
    centred (Binkowski et al. 2018, eq. 4; the first-order term of a U-statistic). Their mean is KID, and differences
    between two sets of pictures of the same prompts, compared with the same `second`, have KID's paired variance.
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a.double() @ b.double().T / a.shape[1] + 1) ** 3

    within, real = kernel(first, first), kernel(second, second)
    n, m = len(first), len(second)
    to_others = (within.sum(1) - within.diagonal()) / (n - 1)
    to_real = kernel(first, second).mean(1)
    influence = 2 * (to_others - to_real)
    distance = to_others.mean() - 2 * to_real.mean() + (real.sum() - real.diagonal().sum()) / (m * (m - 1))
    return (1000 * (distance + influence - influence.mean())).numpy()


def precomputed(num_features: int) -> Any:
    """A feature extractor for torchmetrics that takes features (n, d) instead of pictures."""
    from torch import nn

    identity: Any = nn.Identity()
    identity.num_features = num_features
    return identity
