"""Captioned pictures and their splits; the drawn creatures and OpenMoji's animals as such."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tasks.diffusion.worlds.character import Character
from tasks.diffusion.worlds.creatures import Creatures
from tasks.diffusion.worlds.drawing import SIZE, Attributes, DrawnWorld
from tasks.errors import TaskError

if TYPE_CHECKING:
    from PIL import Image

# Streams of drawings, apart from those that the bundled parts were trained and probed on.
TRAIN_STREAM, VALIDATION_STREAM, TEST_STREAM, FLOOR_STREAM = 1, 2, 3, 4
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}


@dataclass(frozen=True)
class Pictures:
    """`pixels` uint8 (n, 3, height, width), a caption each, the attributes where the world is a drawn one.

    `whole` has the pictures before they were cropped to squares, uint8 (3, height, width) each with the shorter side
    that `pixels` has, where random crops need them.
    """

    pixels: Tensor
    captions: list[str]
    attributes: list[Attributes] = field(default_factory=list)
    whole: list[Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: list[int]) -> Pictures:
        attributes = [self.attributes[i] for i in index] if self.attributes else []
        whole = [self.whole[i] for i in index] if self.whole else []
        return Pictures(self.pixels[index], [self.captions[i] for i in index], attributes, whole)


@dataclass(frozen=True)
class Splits:
    """What a task learns from and is measured on. `floor` is real data for the real-against-real distance."""

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


def creatures(train: int, validation: int, test: int, resolution: int) -> Splits:
    """Training combinations for training; held-out ones, captions that say everything, for the test."""
    world = Creatures()
    tested = draw(world, test, TEST_STREAM, True, full_caption=True)
    splits = Splits(
        train=draw(world, train, TRAIN_STREAM, False),
        validation=draw(world, validation, VALIDATION_STREAM, False),
        test=tested,
        reference=tested,
        floor=draw(world, test, FLOOR_STREAM, True),
        facts={"data": "creatures", "test": "held-out combinations of colour, eyes and head"},
    )
    return splits if resolution == SIZE else _resized(splits, resolution)


def _resized(splits: Splits, resolution: int) -> Splits:
    def larger(pictures: Pictures) -> Pictures:
        if not len(pictures):
            return pictures
        pixels = torch.nn.functional.interpolate(pictures.pixels, size=(resolution, resolution), mode="nearest")
        return Pictures(pixels, pictures.captions, pictures.attributes)

    sets = (splits.train, splits.validation, splits.test, splits.reference, splits.floor)
    return Splits(*map(larger, sets), facts=splits.facts)


def openmoji_animals(validation: int, test: int, resolution: int) -> Splits:
    """OpenMoji's animals by their English names; every fifth is kept for the test."""
    from tasks.diffusion.data import openmoji

    try:
        names = openmoji.animals()
    except ModuleNotFoundError as missing:
        raise TaskError(str(missing)) from None
    pixels = [openmoji.rasterise(code, resolution) for code in tqdm(names, "OpenMoji", leave=False)]
    facts = {"data": "openmoji", "attribution": openmoji.ATTRIBUTION}
    return split(Pictures(stack(pixels), [f"a picture of {name}" for name in names.values()]), validation, test, facts)


def square(picture: Image.Image, resolution: int) -> np.ndarray:
    """The centre of a picture, uint8 (resolution, resolution, 3)."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(picture, (resolution, resolution), Image.Resampling.LANCZOS))


def check_count(count: int, facts: dict) -> None:
    """Raise TaskError where there are too few pictures to keep one for the test."""
    if count < 5:
        raise TaskError(f"{facts['data']} has {count} pictures; at least 5 are needed to keep one for the test")


def character(count: int, held_out: int, resolution: int, caption: str) -> Splits:
    """The drawn subject of DreamBooth: `count` pictures on some backgrounds to learn from, kept ones on all."""
    world = Character()
    train, kept = draw(world, count, TRAIN_STREAM, False), draw(world, held_out, TEST_STREAM, None)
    return _subject(train, kept, caption, resolution, "character")


def subject_folder(folder: Path, held_out: int | None, resolution: int, caption: str, keep_whole: bool) -> Splits:
    """The pictures of a folder, all with one caption; every fifth is kept, or `held_out` of them evenly spread.

    Raises TaskError that names what cannot be read.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    kept_count = max(1, len(files) // 5) if held_out is None else held_out
    if len(files) <= kept_count:
        raise TaskError(
            f"--task.data '{folder}' must be 'character' or a folder with at least {kept_count + 1} pictures "
            f"({', '.join(sorted(SUFFIXES))}), {kept_count} of them kept for the evaluation; it has {len(files)}"
        )
    pixels, whole = [], []
    for file in files:
        try:
            picture = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as broken:
            raise TaskError(f"the picture '{file}' cannot be read ({broken}): mend or remove it") from None
        pixels.append(square(picture, resolution))
        if keep_whole:
            whole.append(resized(picture, resolution))
    pictures = Pictures(stack(pixels), [caption] * len(files), whole=whole)
    kept = [i * len(files) // kept_count for i in range(kept_count)]
    trained = [i for i in range(len(files)) if i not in kept]
    return _subject(pictures[trained], pictures[kept], caption, resolution, str(folder))


def _subject(train: Pictures, kept: Pictures, caption: str, resolution: int, name: str) -> Splits:
    train, kept = (replace(part, captions=[caption] * len(part)) for part in (train, kept))
    facts = {"data": name, "test": "kept pictures of the subject"}
    splits = Splits(train=train, validation=kept, test=kept, reference=kept, floor=train, facts=facts)
    return splits if kept.pixels.shape[-1] == resolution else _resized(splits, resolution)


def resized(picture: Image.Image, shorter: int) -> Tensor:
    """The whole picture with a shorter side of so many pixels, uint8 (3, height, width)."""
    from PIL import Image

    factor = shorter / min(picture.size)
    width, height = (max(shorter, round(length * factor)) for length in picture.size)
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()


def split(pictures: Pictures, validation: int, test: int, facts: dict) -> Splits:
    """Every fifth picture is kept from training: at most `validation` of them for the validation loss, `test` for the
    test. With few test pictures, all are the reference.
    """
    count = len(pictures)
    check_count(count, facts)
    kept = list(range(0, count, 5))[: max(validation, test)]
    tested, trained = kept[:test], [i for i in range(count) if i not in set(kept)]
    reference = tested if len(tested) >= 100 else list(range(count))
    facts = facts | {"reference": "test pictures" if reference == tested else "all pictures, as the test has few"}
    return Splits(
        train=pictures[trained],
        validation=pictures[kept[:validation]],
        test=pictures[tested],
        reference=pictures[reference],
        floor=pictures[trained[: len(tested)]],
        facts=facts,
    )
