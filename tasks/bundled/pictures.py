"""The pictures that the bundled models are pretrained and tested on, drawn once per process."""

import functools
import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pool

import numpy as np
import torch
from torch import Tensor

from tasks.bundled.pretraining import PROCESSES
from tasks.cache import digest, tensor_digest
from tasks.diffusion.data import openmoji
from tasks.diffusion.worlds.creatures import Creatures
from tasks.diffusion.worlds.drawing import SIZE, Attributes, Drawing, DrawnWorld
from tasks.diffusion.worlds.objects import Objects
from tasks.evenly_spaced import evenly_spaced

# Seeds of drawings. Tasks use others (tasks/diffusion/data/splits.py): no bundled model has seen their pictures.
TRAIN_SEED, PROBE_SEED = 101, 102


@dataclass(frozen=True)
class PictureSet:
    """`pixels` uint8 (n, 3, 64, 64), with the caption and the attributes (empty if unknown) of each."""

    pixels: Tensor
    captions: list[str]
    attributes: list[Attributes]

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def digest(self) -> str:
        """Of pixels and captions."""
        return digest(f"{tensor_digest(self.pixels)} {self.captions}".encode())

    def scaled(self, index: Tensor | slice) -> Tensor:
        return scaled(self.pixels[index])

    def part(self, index: slice) -> "PictureSet":
        return PictureSet(self.pixels[index], self.captions[index], self.attributes[index])

    def __add__(self, other: "PictureSet") -> "PictureSet":
        pixels = torch.cat([self.pixels, other.pixels])
        return PictureSet(pixels, self.captions + other.captions, self.attributes + other.attributes)


def scaled(pixels: Tensor) -> Tensor:
    """Pictures in [-1, 1], channels last in memory."""
    return (pixels.float() / 127.5 - 1).to(memory_format=torch.channels_last)


def _draw(job: tuple[DrawnWorld, int, int, bool | None, bool]) -> Drawing:
    world, seed, index, held_out, full_caption = job
    return world.example(seed, index, held_out, full_caption)


def drawn(
    world: DrawnWorld, count: int, seed: int, held_out: bool | None = None, full_caption: bool = False
) -> PictureSet:
    jobs = [(world, seed, index, held_out, full_caption) for index in range(count)]
    with Pool(PROCESSES) as pool:
        drawings = pool.map(_draw, jobs, chunksize=500)
    pixels = torch.from_numpy(np.stack([drawing.pixels for drawing in drawings])).permute(0, 3, 1, 2).contiguous()
    return PictureSet(pixels, [drawing.caption for drawing in drawings], [drawing.attributes for drawing in drawings])


@functools.cache
def objects(count: int, seed: int = TRAIN_SEED) -> PictureSet:
    return drawn(Objects(), count, seed)


@functools.cache
def creatures(count: int, seed: int = TRAIN_SEED, held_out: bool | None = False) -> PictureSet:
    return drawn(Creatures(), count, seed, held_out)


@functools.cache
def openmoji_pictures(count: int) -> PictureSet:
    """Emoji of OpenMoji, evenly spaced in the list: none of the bundled parts has seen any."""
    names = openmoji.names()
    codes = evenly_spaced([*names], count)
    pixels = np.stack([openmoji.rasterise(code, SIZE) for code in codes])
    captions = [f"a picture of {names[code]}" for code in codes]
    return PictureSet(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), captions, [{} for _ in codes])


def batch_indices(step: int, count: int, batch: int) -> Tensor:
    """The picture numbers of one step, drawn from the step's number alone."""
    return torch.from_numpy(np.random.default_rng([7, step]).integers(0, count, batch))


def mixed_indices(step: int, counts: Sequence[int], shares: Sequence[int]) -> Tensor:
    """The picture numbers of one step in several sets of `counts` pictures in a row, of which each gives its share."""
    starts = itertools.accumulate(counts[:-1], initial=0)
    indices = []
    for number, (start, count, share) in enumerate(zip(starts, counts, shares, strict=True)):
        rng = np.random.default_rng([7, step, number])
        indices.append(start + torch.from_numpy(rng.integers(0, count, share)))
    return torch.cat(indices)


def concatenated(sets: Sequence[PictureSet]) -> PictureSet:
    return functools.reduce(operator.add, sets)
