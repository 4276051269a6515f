"""Distances between sets of pictures and scores of pictures against captions, on torchmetrics.

KID (Binkowski et al. 2018, section 4), FID (Heusel et al. 2017, eq. 6), CLIP score (Hessel et al. 2021),
CMMD (Jayasumana et al. 2024). Every figure says with which extractor it was measured.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from tasks.base import Figure
from tasks.distributed import map_across_ranks

GROUPS = 10  # of the jackknife


class Precomputed(nn.Module):
    """Lets torchmetrics take features (n, d) where it would take pictures."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def kernel_distance(first: Tensor, second: Tensor) -> float:
    """KID x1000 of two feature sets (n, d), (m, d): the unbiased estimate over min(n, m) samples of each."""
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(len(first), len(second))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that it keeps all features: they are kept already
        metric = KernelInceptionDistance(feature=Precomputed(first.shape[1]), subsets=1, subset_size=size)
    torch.manual_seed(0)
    metric.update(second, real=True)
    metric.update(first, real=False)
    return 1000 * metric.compute()[0].item()


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """FID of two feature sets (n, d), (m, d).

    torchmetrics' FrechetInceptionDistance takes the eigenvalues of a d x d product, minutes for d = 1,280 over all
    the sets that a run compares; here tr sqrt(S1 S2) is the nuclear norm of the n x m product of the centred sets,
    the same number exactly (a test holds it to torchmetrics') where n and m are below d.
    """
    a, b = first.double(), second.double()
    centred_a = (a - a.mean(0)) / np.sqrt(len(a) - 1)
    centred_b = (b - b.mean(0)) / np.sqrt(len(b) - 1)
    cross = torch.linalg.svdvals(centred_a @ centred_b.T).sum()
    means = (a.mean(0) - b.mean(0)).square().sum()
    return (means + centred_a.square().sum() + centred_b.square().sum() - 2 * cross).item()


def mean_discrepancy(first: Tensor, second: Tensor, bandwidth: float = 10.0) -> float:
    """CMMD x1000 of two sets of CLIP embeddings: squared MMD with a Gaussian kernel, embeddings of unit length."""
    a, b = (nn.functional.normalize(x.double(), dim=1) for x in (first, second))

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (-torch.cdist(x, y).square() / (2 * bandwidth**2)).exp().mean()

    return 1000 * (kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)).item()


def jackknife(distance: Callable[[Tensor, Tensor], float], first: Tensor, second: Tensor) -> tuple[float, float]:
    """A 95 % interval by the delete-a-group jackknife over both sets (Shao & Tu 1995, section 2.3), normal."""
    value = distance(first, second)
    group = torch.arange(max(len(first), len(second))) % GROUPS
    left_out = [distance(first[group[: len(first)] != g], second[group[: len(second)] != g]) for g in range(GROUPS)]
    spread = np.sqrt((GROUPS - 1) / GROUPS * np.square(np.array(left_out) - np.mean(left_out)).sum())
    return value - 1.96 * float(spread), value + 1.96 * float(spread)


def distance_figure(
    distance: Callable[[Tensor, Tensor], float], sets: dict[str, Tensor], unit: str, extractor: str
) -> Figure:
    """The distance from `generated` to `reference`, its interval, the `floor` and the `reconstruction` beside it."""
    generated, reference = sets["generated"], sets["reference"]
    low, high = jackknife(distance, generated, reference)
    return Figure(
        distance(generated, reference),
        unit,
        len(generated),
        extractor,
        low,
        high,
        floor=distance(sets["floor"], reference),
        reconstruction=distance(sets["reconstruction"], reference),
    )


def mean_figure(values: np.ndarray, unit: str, extractor: str, **others: float) -> Figure:
    """The mean over items (n,) with a 95 % t interval."""
    n, mean = len(values), float(values.mean())
    low = high = mean
    if n > 1 and values.std() > 0:
        low, high = stats.t.interval(0.95, n - 1, loc=mean, scale=stats.sem(values))
    return Figure(mean, unit, n, extractor, float(low), float(high), **others)


class ClipScorer:
    """CLIP score (Hessel et al. 2021) of pictures against captions: 100 x cosine, not below 0, as torchmetrics has it.

    `folder` is a CLIPModel with its processor: the bundled scorer, another folder or a hub name.
    """

    def __init__(self, folder: str, name: str, device: torch.device):
        from transformers import CLIPModel, CLIPProcessor

        self.name = name
        model: Any = CLIPModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        self.model = model.to(device).eval()
        self.processor: Any = CLIPProcessor.from_pretrained(folder, backend="pil")

    @torch.no_grad()
    def scores(self, pixels: Tensor, captions: list[str]) -> np.ndarray:
        """One score a picture, shape (n,); pictures uint8 (n, 3, height, width)."""

        def cosines(start: int) -> Tensor:
            part = slice(start, start + 250)
            inputs = self.processor(
                text=captions[part], images=list(pixels[part]), padding=True, truncation=True, return_tensors="pt"
            ).to(self.model.device)
            output = self.model(**inputs)
            return (output.image_embeds * output.text_embeds).sum(dim=-1).cpu()

        found = map_across_ranks(range(0, len(captions), 250), cosines)
        return (100 * torch.cat(found)).clamp(min=0).numpy()

    @torch.no_grad()
    def embeddings(self, pixels: Tensor) -> Tensor:
        """Picture embeddings (n, d) on the CPU of pictures uint8 (n, 3, height, width)."""
        found = []
        for part in pixels.split(250):
            inputs = self.processor(images=list(part), return_tensors="pt").to(self.model.device)
            found.append(self.model.visual_projection(self.model.vision_model(**inputs).pooler_output).cpu())
        return torch.cat(found)
