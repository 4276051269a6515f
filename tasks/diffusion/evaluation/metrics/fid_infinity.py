"""FID extrapolated to infinitely many pictures (FID∞; Chong & Forsyth 2020, arXiv 1911.07023, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.diffusion.evaluation.metrics.distance import DistanceMetric
from tasks.diffusion.evaluation.metrics.fid import frechet_distance

if TYPE_CHECKING:
    from torch import Tensor

SHARES = (1 / 2, 5 / 8, 3 / 4, 7 / 8, 1)  # of the pictures, to fit a line through


@dataclass(frozen=True)
class ExtrapolatedFrechetDistance(DistanceMetric):
    name: str = "fid_infinity"
    better: Literal["lower", "higher"] = "lower"
    unit: str = ""
    meaning: str = "FID extrapolated to infinite n; below the features' dimension (1,280) a part of its bias is left"
    needs: tuple[str, ...] = ("10 pictures", "image features")

    def distance(self, first: Tensor, second: Tensor) -> float:
        return extrapolated_frechet_distance(first, second)


def extrapolated_frechet_distance(first: Tensor, second: Tensor) -> float:
    """FID∞ of two feature sets (n, d), (m, d): the intercept of a line through FID over 1/n of random subsets.

    Both sets shrink by the same share: here the real pictures are as few as the generated ones, and the bias of either
    falls as 1/n. Sets of one size shrink by the same rows, whose pictures may have the same caption. The bias is linear
    in 1/n once n is well above d: of 500 pictures in 1,280 features a third of it is left, of 250 a half.
    """
    import numpy as np
    import torch

    def order(size: int) -> Tensor:
        return torch.randperm(size, generator=torch.Generator().manual_seed(0))

    first, second = first[order(len(first))], second[order(len(second))]
    counts = [(round(share * len(first)), round(share * len(second))) for share in SHARES]
    distances = [frechet_distance(first[:n], second[:m]) for n, m in counts]
    return float(np.polyfit([len(first) / n for n, _ in counts], distances, 1)[1])
