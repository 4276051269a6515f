"""Captioned pictures and their splits: drawn creatures, OpenMoji's animals, a subject's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tasks.bad_items import left_out_line, numbered
from tasks.diffusion.data.open_picture import SUFFIXES, UnreadablePicture, open_picture
from tasks.diffusion.worlds.character import Character
from tasks.diffusion.worlds.creatures import Creatures
from tasks.diffusion.worlds.drawing import SIZE, Attributes, DrawnWorld
from tasks.errors import TaskError

if TYPE_CHECKING:
    from PIL import Image

SHARED = "validation_pictures_in_test"  # fact: number of pictures that validation and test have in common
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
    """What a task is trained and measured on. `floor` is compared with `reference`: real data against real data."""

    train: Pictures
    validation: Pictures
    test: Pictures
    reference: Pictures
    floor: Pictures
    facts: dict


def draw(world: DrawnWorld, count: int, stream: int, held_out: bool | None, full_caption: bool = False) -> Pictures:
    examples = [world.example(stream, index, held_out, full_caption) for index in range(count)]
    return Pictures(
        stack([example.pixels for example in examples]),
        [example.caption for example in examples],
        [example.attributes for example in examples],
    )


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
        reference=tested,
        floor=draw(world, test, FLOOR_STREAM, True),
        facts={"data": "creatures", "test": "held-out combinations of colour, eyes and head"},
    )
    return splits if resolution == SIZE else _resized(splits, resolution)


def _resized(splits: PictureSplits, resolution: int) -> PictureSplits:
    def larger(pictures: Pictures) -> Pictures:
        if not len(pictures):
            return pictures
        pixels = torch.nn.functional.interpolate(pictures.pixels, size=(resolution, resolution), mode="nearest")
        return Pictures(pixels, pictures.captions, pictures.attributes, sizes=pictures.original_sizes)

    sets = (splits.train, splits.validation, splits.test, splits.reference, splits.floor)
    return PictureSplits(*map(larger, sets), facts=splits.facts)


def openmoji_animals(validation: int, test: int, resolution: int) -> PictureSplits:
    """OpenMoji's animals by their English names; every fifth is held out for the test."""
    from tasks.diffusion.data import openmoji

    try:
        names = openmoji.animals()
    except ModuleNotFoundError as missing:
        raise TaskError(str(missing)) from None
    pixels = [openmoji.rasterise(code, resolution) for code in tqdm(names, "OpenMoji", leave=False)]
    facts = {"data": "openmoji", "attribution": openmoji.ATTRIBUTION}
    return split(Pictures(stack(pixels), [f"a picture of {name}" for name in names.values()]), validation, test, facts)


def square(picture: Image.Image, resolution: int) -> np.ndarray:
    """The centre square of a picture, resized: uint8 (resolution, resolution, 3)."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(picture, (resolution, resolution), Image.Resampling.LANCZOS))


def character(count: int, held_out: int, resolution: int, caption: str, shown: Attributes) -> PictureSplits:
    """DreamBooth's drawn subject: `count` training pictures on some backgrounds, `held_out` ones on all.

    `shown` are attributes that all its pictures share.
    """
    world = Character()
    train, test = draw(world, count, TRAIN_STREAM, False), draw(world, held_out, TEST_STREAM, None)
    test = replace(test, attributes=[each | shown for each in test.attributes])
    return _subject(train, test, caption, resolution, "character")


def subject_folder(
    folder: Path, held_out: int | None, resolution: int, caption: str, keep_whole: bool
) -> PictureSplits:
    """The pictures of a folder, all with one caption; every fifth is held out, or `held_out` of them, evenly spread.

    Raises TaskError that names what cannot be read.
    """
    files = subject_files(folder, held_out)
    test_count = _held_out(files, held_out)
    pixels, whole, sizes = [], [], []
    for file in files:
        try:
            picture = open_picture(file)
        except UnreadablePicture as broken:
            raise TaskError(f"the picture '{file}' cannot be read ({broken}): repair or remove it") from None
        pixels.append(square(picture, resolution))
        sizes.append((picture.height, picture.width))
        if keep_whole:
            whole.append(resized(picture, resolution))
    names = [file.name for file in files]
    pictures = Pictures(stack(pixels), [caption] * len(files), whole=whole, names=names, sizes=sizes)
    test = [i * len(files) // test_count for i in range(test_count)]
    train = [i for i in range(len(files)) if i not in test]
    return _subject(pictures[train], pictures[test], caption, resolution, str(folder))


def subject_files(folder: Path, held_out: int | None) -> list[Path]:
    """The pictures of a subject's folder, in order of their names. Raises TaskError if there are too few."""
    found = folder.glob("[!.]*") if folder.is_dir() else ()
    files = sorted(file for file in found if file.suffix.lower() in SUFFIXES)
    test_count = _held_out(files, held_out)
    if len(files) <= test_count:
        raise TaskError(
            f"--task.data '{folder}' must be 'character' or a folder with at least {test_count + 1} pictures "
            f"({', '.join(sorted(SUFFIXES))}), {test_count} of them held out for the evaluation; it has {len(files)}"
        )
    return files


def _held_out(files: Sequence[Path], held_out: int | None) -> int:
    return max(1, len(files) // 5) if held_out is None else held_out


def _subject(train: Pictures, test: Pictures, caption: str, resolution: int, name: str) -> PictureSplits:
    train, test = (replace(part, captions=[caption] * len(part)) for part in (train, test))
    facts = {"data": name, "test": "held-out pictures of the subject", SHARED: len(test)}
    splits = PictureSplits(train=train, validation=test, test=test, reference=test, floor=train, facts=facts)
    return splits if test.pixels.shape[-1] == resolution else _resized(splits, resolution)


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


def split(pictures: Pictures, validation: int, test: int, facts: dict) -> PictureSplits:
    """Hold out every fifth picture: at most `validation` of them for the validation loss and `test` for the test.

    With fewer than 100 test pictures, the reference is all pictures. Raises TaskError if there are fewer than 5.
    """
    count = len(pictures)
    if count < 5:
        raise TaskError(
            f"{facts['data']} has {numbered(count, 'picture')} that can be used; at least 5 are needed, as every "
            f"fifth is held out for the test; left out: {left_out_line(facts)}"
        )
    held_out = list(range(0, count, 5))[: max(validation, test)]
    tested, trained = held_out[:test], [i for i in range(count) if i not in set(held_out)]
    reference = tested if len(tested) >= 100 else list(range(count))
    facts = facts | {
        "reference": "test pictures" if reference == tested else "all pictures, as the test has few",
        SHARED: min(validation, len(tested)),
    }
    return PictureSplits(
        train=pictures[trained],
        validation=pictures[held_out[:validation]],
        test=pictures[tested],
        reference=pictures[reference],
        floor=pictures[trained[: len(tested)]],
        facts=facts,
    )
