"""Pictures of the icons with captions, drawn from a seed: mirrored, turned, scaled, on coloured backgrounds."""

import io
import re
from collections.abc import Container
from functools import cache
from multiprocessing import Pool
from zlib import crc32

import numpy as np
import torch
from PIL import Image

from tasks.bundled.icons import Icon, icons
from tasks.bundled.pictures import PictureSet
from tasks.bundled.pretraining import PROCESSES
from tasks.diffusion.worlds.drawing import BACKGROUNDS, SIZE, Colour

ICON_BACKGROUNDS: dict[str, Colour] = BACKGROUNDS | {
    "blue": (120, 160, 235),
    "green": (130, 200, 130),
    "yellow": (250, 232, 130),
    "pink": (250, 200, 220),
    "purple": (190, 160, 225),
    "gray": (205, 205, 210),
    "black": (44, 44, 50),
}
DRAWN_AT = 2 * SIZE
SEVERAL = ("two", "multiple", "people", "men", "women", "speaking")  # first words of names that take no article


def icon_pictures(names: Container[str], seed: int, copies: int = 1, named: bool = False) -> PictureSet:
    """`copies` pictures of every icon of these names. `named`: captions of one wording that say the name alone."""
    chosen = [i for i, icon in enumerate(icons()) if icon.name in names]
    rasters = _rasters()
    pixels, captions = [], []
    for copy in range(copies):
        for i in chosen:
            icon = icons()[i]
            rng = np.random.default_rng([seed, copy, crc32(f"{icon.icon_set}/{icon.name}".encode())])
            background = "white" if rng.random() < 0.3 else str(rng.choice([*ICON_BACKGROUNDS]))
            pixels.append(_picture(rasters[i], ICON_BACKGROUNDS[background], rng))
            wordings = captions_of(icon, background)
            captions.append(wordings[0] if named else wordings[rng.integers(len(wordings))])
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return PictureSet(stacked, captions, [{}] * len(captions))


def captions_of(icon: Icon, background: str) -> list[str]:
    """Captions in several wordings, in the grammar of the drawn worlds; the first one says the name alone."""
    thing, behind = noun_phrase(icon.name), f"{noun_phrase(background)} background"
    return [
        f"a picture of {thing}",
        f"a picture of {thing} on {behind}",
        f"a picture of {thing}, on {behind}",
        f"a {icon.style} picture of {thing}, {background} background",
        f"{thing} on {behind}",
        f"a picture of {icon.name}",
        icon.name,
    ]


@cache
def noun_phrase(name: str) -> str:
    """The name after its article, if it takes one: "a koala", "an hourglass", "grapes"."""
    head = re.split(r" (?:with|in|of|on|over|behind|and) ", name)[0].split()[-1]
    several = head.endswith("s") and not head.endswith(("us", "ss", "is")) and _english().singular_noun(head)
    return name if several or name.split()[0] in SEVERAL else _english().a(name)


@cache
def _english():
    import inflect

    return inflect.engine()


@cache
def _rasters() -> list[np.ndarray]:
    """Every icon, uint8 (128, 128, 4) with transparency."""
    with Pool(PROCESSES) as pool:
        return pool.map(raster, [icon.svg for icon in icons()], chunksize=100)


def raster(svg: str) -> np.ndarray:
    """An SVG in the middle of a transparent square, uint8 (128, 128, 4)."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=DRAWN_AT, height=DRAWN_AT)
    picture = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    square = Image.new("RGBA", (DRAWN_AT, DRAWN_AT))
    square.paste(picture, ((DRAWN_AT - picture.width) // 2, (DRAWN_AT - picture.height) // 2))
    return np.asarray(square)


def _picture(icon: np.ndarray, background: Colour, rng: np.random.Generator) -> np.ndarray:
    """The icon on a background, uint8 (64, 64, 3)."""
    picture = Image.fromarray(icon)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = round(SIZE * rng.uniform(0.74, 0.98))
    picture = picture.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC).resize((side, side), Image.Resampling.BOX)
    shift = tuple(round(v) for v in (SIZE - side) / 2 + rng.uniform(-3, 3, 2))
    jittered = np.clip(np.array(background) + rng.integers(-5, 6, 3), 0, 255)
    canvas = Image.new("RGB", (SIZE, SIZE), tuple(int(v) for v in jittered))
    canvas.paste(picture, shift, picture)
    return np.asarray(canvas)
