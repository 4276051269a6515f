"""Random crops and flips of training pictures: a fixed number of variants for the cache, or free draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.diffusion.data.splits import Pictures, resized_lengths

CENTRE = 0.5


@dataclass(frozen=True)
class Augmentation:
    """Each variant is one of `crops` windows, evenly spaced along the longer side, mirrored or not.

    A square picture has one window. With `crops` 1 every picture has one: its centre.
    """

    crops: int = 1
    flip: bool = False

    def variants(self, pictures: Pictures) -> int:
        """Number of variants of each picture."""
        return (self.crops if pictures.whole else 1) * (2 if self.flip else 1)

    def variant(self, pictures: Pictures, number: int) -> Tensor:
        """One variant of every picture, uint8 (n, 3, resolution, resolution)."""
        position, mirrored = self._view(number)
        pixels = pictures.pixels
        if pictures.whole and self.crops > 1:
            pixels = torch.stack([cropped(whole, position) for whole in pictures.whole])
        return pixels.flip(-1) if mirrored else pixels

    def _view(self, number: int) -> tuple[float, bool]:
        """The position of a variant's window, and whether it is mirrored."""
        window, mirrored = divmod(number, 2) if self.flip else (number, 0)
        return window / (self.crops - 1) if self.crops > 1 else CENTRE, bool(mirrored)

    def variant_windows(self, pictures: Pictures, number: int) -> Tensor:
        """The windows of one variant of every picture, (n, 6)."""
        position, mirrored = self._view(number)
        count = len(pictures)
        return self.windows(pictures, range(count), [position] * count, [mirrored] * count)

    def drawn(self, pictures: Pictures, index: Tensor, positions: Tensor, mirrored: Tensor) -> Tensor:
        """The pictures `index`, each cropped at its position in [0, 1) and flipped if `mirrored`."""
        pixels = pictures.pixels[index]
        if pictures.whole and self.crops > 1:
            chosen = zip(index.tolist(), positions.tolist(), strict=True)
            pixels = torch.stack([cropped(pictures.whole[i], position) for i, position in chosen])
        if not self.flip:
            return pixels
        return torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(-1), pixels)

    def windows(
        self, pictures: Pictures, index: Sequence[int], positions: Sequence[float], mirrored: Sequence[bool]
    ) -> Tensor:
        """Where each view is in its picture, (n, 6): height and width of the picture before it was resized, top and
        left end of the window in the resized picture, height and width of the window."""
        sizes, side = pictures.original_sizes, pictures.pixels.shape[-1]
        moves, flips = bool(pictures.whole) and self.crops > 1, self.flip
        views = zip(index, positions, mirrored, strict=True)
        rows = [window(sizes[i], side, p if moves else CENTRE, flips and m) for i, p, m in views]
        return torch.tensor(rows).view(-1, 6)


def window(size: tuple[int, int], side: int, position: float, mirrored: bool) -> tuple[int, ...]:
    """One row of `Augmentation.windows`; in a mirrored picture the window lies at the other end."""
    height, width = resized_lengths(size, side)
    top, left = (round(position * (length - side)) for length in (height, width))
    return *size, top, width - side - left if mirrored else left, side, side


def cropped(whole: Tensor, position: float) -> Tensor:
    """The square window of a picture (3, height, width) at `position`: 0 is the left or upper end, 1 the other."""
    side = min(whole.shape[1:])
    top, left = (round(position * (length - side)) for length in whole.shape[1:])
    return whole[:, top : top + side, left : left + side]
