"""Fréchet Inception distance (FID; Heusel et al. 2017, eq. 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.diffusion.evaluation.metrics.distance import DistanceMetric

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FrechetDistance(DistanceMetric):
    name: str = "fid"
    better: Literal["lower", "higher"] = "lower"
    unit: str = "biased upwards at n"  # not a unit, but shown wherever the value is (Chong & Forsyth 2020)
    meaning: str = "Fréchet distance to real pictures (FID)"
    needs: tuple[str, ...] = ("10 pictures", "image features")

    def distance(self, first: Tensor, second: Tensor) -> float:
        return frechet_distance(first, second)


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """FID of two feature sets (n, d), (m, d).

    torchmetrics' FrechetInceptionDistance takes the eigenvalues of a d x d product, which is minutes for d = 1,280
    over all the sets that a run compares. Here tr sqrt(S1 S2) is the nuclear norm of the n x m product of the centred
    sets: the same number exactly, and fast if n and m are below d.
    """
    import torch

    a, b = first.double(), second.double()
    centred_a = (a - a.mean(0)) / math.sqrt(len(a) - 1)
    centred_b = (b - b.mean(0)) / math.sqrt(len(b) - 1)
    cross = torch.linalg.svdvals(centred_a @ centred_b.T).sum()
    means = (a.mean(0) - b.mean(0)).square().sum()
    return (means + centred_a.square().sum() + centred_b.square().sum() - 2 * cross).item()
