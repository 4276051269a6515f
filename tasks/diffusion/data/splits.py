"""Captioned pictures and their splits; those of drawn creatures and of DreamBooth's drawn subject."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tasks.diffusion.worlds.character import Character
from tasks.diffusion.worlds.creatures import Creatures
from tasks.diffusion.worlds.drawing import SIZE, Attributes, DrawnWorld

if TYPE_CHECKING:
    from PIL import Image

REDRAWN = "the test's captions redrawn"  # fact "floor": what the pictures of `PictureSplits.floor` are
# Seeds of drawings; the bundled models were trained and tested on others (tasks/bundled/pictures.py).
TRAIN_STREAM, VALIDATION_STREAM, TEST_STREAM, FLOOR_STREAM = 1, 2, 3, 4


@dataclass(frozen=True)
class Pictures:
    """`pixels` uint8 (n, 3, height, width), one caption per picture, and for drawn pictures their attributes.

    `whole`, for random crops, has the pictures before they were cropped to squares: uint8 (3, height, width) with the
    same shorter side as `pixels`. `sizes` are the heights and widths before resizing; without them, those of `pixels`.
    """

    pixels: Tensor
    captions: list[str]
    attributes: list[Attributes] = field(default_factory=list)
    whole: list[Tensor] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of the files, if they are files
    sizes: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: list[int]) -> Pictures:
        attributes = [self.attributes[i] for i in index] if self.attributes else []
        whole = [self.whole[i] for i in index] if self.whole else []
        names = [self.names[i] for i in index] if self.names else []
        sizes = [self.sizes[i] for i in index] if self.sizes else []
        return Pictures(self.pixels[index], [self.captions[i] for i in index], attributes, whole, names, sizes)

    @property
    def original_sizes(self) -> list[tuple[int, int]]:
        """Height and width of every picture before it was resized."""
        height, width = self.pixels.shape[-2:]
        return self.sizes or [(height, width)] * len(self)


@dataclass(frozen=True)
class PictureSplits:
    """What a task is trained and measured on: four sets, of which no two have a picture in common.

    `floor` is compared with `reference`, real data against real data: for drawn data other drawings of the test's
    captions, else other held-out pictures, empty if there are none. The fact "floor" says which. Data with too few
    pictures have no `validation` either.
    """

    train: Pictures
    validation: Pictures
    test: Pictures
    floor: Pictures
    facts: dict[str, Any]

    @property
    def reference(self) -> Pictures:
        """What generated pictures are compared with: the test's pictures."""
        return self.test


def draw(world: DrawnWorld, count: int, stream: int, held_out: bool | None, full_caption: bool = False) -> Pictures:
    examples = [world.example(stream, index, held_out, full_caption) for index in range(count)]
    return Pictures(
        stack([example.pixels for example in examples]),
        [example.caption for example in examples],
        [example.attributes for example in examples],
    )


def redraw(world: DrawnWorld, pictures: Pictures, stream: int) -> Pictures:
    """Other drawings of the same attributes, with the same captions: what a perfect model would generate."""
    drawings = [world.redraw(attributes, stream, i) for i, attributes in enumerate(pictures.attributes)]
    return replace(pictures, pixels=stack(drawings))


def stack(pictures: list[np.ndarray]) -> Tensor:
    """Pictures uint8 (height, width, 3) as one tensor (n, 3, height, width)."""
    if not pictures:
        return torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8)
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def creatures(train: int, validation: int, test: int, resolution: int) -> PictureSplits:
    """Creatures with training combinations for training, and with held-out ones and full captions for the test."""
    world = Creatures()
    tested = draw(world, test, TEST_STREAM, True, full_caption=True)
    splits = PictureSplits(
        train=draw(world, train, TRAIN_STREAM, False),
        validation=draw(world, validation, VALIDATION_STREAM, False),
        test=tested,
        floor=redraw(world, tested, FLOOR_STREAM),
        facts={"data": "creatures", "test": "held-out combinations of colour, eyes and head", "floor": REDRAWN},
    )
    return splits if resolution == SIZE else _resized(splits, resolution)


def _resized(splits: PictureSplits, resolution: int) -> PictureSplits:
    def larger(pictures: Pictures) -> Pictures:
        if not len(pictures):
            return pictures
        pixels = torch.nn.functional.interpolate(pictures.pixels, size=(resolution, resolution), mode="nearest")
        return Pictures(pixels, pictures.captions, pictures.attributes, sizes=pictures.original_sizes)

    sets = (splits.train, splits.validation, splits.test, splits.floor)
    return PictureSplits(*map(larger, sets), facts=splits.facts)


def square(picture: Image.Image, resolution: int) -> np.ndarray:
    """The centre square of a picture, resized: uint8 (resolution, resolution, 3)."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(picture, (resolution, resolution), Image.Resampling.LANCZOS))


def character(count: int, held_out: int, resolution: int, caption: str, shown: Attributes) -> PictureSplits:
    """DreamBooth's drawn subject: `count` training pictures on some backgrounds, `held_out` ones on all in each of
    validation, test and floor.

    `shown` are attributes that all its pictures share.
    """
    world = Character()
    test = draw(world, held_out, TEST_STREAM, None)
    splits = PictureSplits(
        train=draw(world, count, TRAIN_STREAM, False),
        validation=draw(world, held_out, VALIDATION_STREAM, None),
        test=replace(test, attributes=[each | shown for each in test.attributes]),
        floor=redraw(world, test, FLOOR_STREAM),
        facts={"data": "character", "floor": REDRAWN},
    )
    return subject_splits(splits, caption, resolution)


def subject_splits(splits: PictureSplits, caption: str, resolution: int) -> PictureSplits:
    """A subject's pictures, all with one caption."""

    def captioned(pictures: Pictures) -> Pictures:
        return replace(pictures, captions=[caption] * len(pictures))

    parts = map(captioned, (splits.train, splits.validation, splits.test, splits.floor))
    splits = PictureSplits(*parts, facts=splits.facts | {"test": "held-out pictures of the subject"})
    return splits if splits.test.pixels.shape[-1] == resolution else _resized(splits, resolution)


def resized(picture: Image.Image, shorter: int) -> Tensor:
    """The whole picture with its shorter side resized to `shorter` pixels, uint8 (3, height, width)."""
    from PIL import Image

    pixels = np.asarray(picture.resize(resized_lengths(picture.size, shorter), Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()


def resized_lengths(lengths: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Both sides, in either order, after the shorter one is resized to `shorter` pixels."""
    factor = shorter / min(lengths)
    first, second = (max(shorter, round(length * factor)) for length in lengths)
    return first, second
