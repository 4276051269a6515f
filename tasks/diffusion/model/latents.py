"""The training pictures as latents and their captions as text conditions, computed once and cached by content."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from tasks.cache import cached, tensor_digest
from tasks.diffusion.data.augmentation import Augmentation
from tasks.diffusion.data.splits import Pictures
from tasks.diffusion.model.bases import parts_digest
from tasks.diffusion.model.stable_diffusion import Conditions, StableDiffusion

VAE_PRECISION = "fp32"


class Latents(ABC):
    """Training pictures as the VAE encodes them."""

    shape: tuple[int, int, int]  # of one picture's latents: channels, height, width

    @abstractmethod
    def moments(self, index: Tensor, views: Tensor) -> Tensor:
        """Scaled means and deviations (batch, 2, channels, h, w) of the pictures `index`.

        `views`, (batch, 2) uniform numbers in [0, 1), choose each picture's crop and flip.
        """

    @abstractmethod
    def windows(self, index: Tensor, views: Tensor) -> Tensor:
        """Where these views are in their pictures (batch, 6), as in `Augmentation.windows`."""


class CachedLatents(Latents):
    """Every variant encoded in advance: `variants` (n, variants, 2, channels, h, w), in `windows` (n, variants, 6)."""

    def __init__(self, variants: Tensor, windows: Tensor):
        self.variants, self._windows = variants, windows
        channels, height, width = variants.shape[3:]
        self.shape = (channels, height, width)

    def moments(self, index: Tensor, views: Tensor) -> Tensor:
        return self.variants[index, self._chosen(views)]

    def windows(self, index: Tensor, views: Tensor) -> Tensor:
        return self._windows[index, self._chosen(views)]

    def _chosen(self, views: Tensor) -> Tensor:
        return (views[:, 0] * self.variants.shape[1]).long()


class OnTheFlyLatents(Latents):
    """Pictures cropped, flipped and encoded at every draw: nothing is stored, but the VAE stays in memory."""

    def __init__(self, base: StableDiffusion, pictures: Pictures, augmentation: Augmentation):
        self.base, self.pictures, self.augmentation = base, pictures, augmentation
        self.shape = base.latent_shape(pictures.pixels.shape[-1])

    def moments(self, index: Tensor, views: Tensor) -> Tensor:
        return self.base.encode_batch(self.augmentation.drawn(self.pictures, index, *self._chosen(views)))

    def windows(self, index: Tensor, views: Tensor) -> Tensor:
        chosen = (view.tolist() for view in self._chosen(views))
        return self.augmentation.windows(self.pictures, index.tolist(), *chosen)

    def _chosen(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """The positions of the crops, and which views are mirrored."""
        return views[:, 0], views[:, 1] < 0.5


def cached_latents(base: StableDiffusion, pictures: Pictures, augmentation: Augmentation) -> CachedLatents:
    """All variants, each cached by its pixels and by the VAE's weights and configuration."""
    vae = _digest(base, "vae")
    moments, windows = [], []
    for number in range(augmentation.variants(pictures)):
        pixels = augmentation.variant(pictures, number)
        key = {"vae": vae, "pixels": tensor_digest(pixels), "precision": VAE_PRECISION}
        tensors, _ = cached("latents", key, lambda pixels=pixels: ({"moments": base.encode_images(pixels)}, None))
        moments.append(tensors["moments"])
        windows.append(augmentation.variant_windows(pictures, number))
    return CachedLatents(torch.stack(moments, dim=1), torch.stack(windows, dim=1))


def cached_conditions(base: StableDiffusion, captions: list[str]) -> Conditions:
    """Text conditions, cached by the captions and by the text encoder's and tokenizer's files."""
    key = {"text_encoder": _digest(base, *base.conditioning), "captions": captions, "precision": base.precision}
    return cached("text-states", key, lambda: (base.encode_text(captions), None))[0]


def _digest(base: StableDiffusion, *parts: str) -> str:
    if base.folder is None:
        raise ValueError("a base without a folder has no weights to encode with")
    return parts_digest(base.folder, *parts)
