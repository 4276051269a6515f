"""Pictures by artists to pretrain on: six icon sets with names, from npm (`npm` is needed to build, never to run).

OpenMoji is not among them: it is the real art that no bundled part has seen.
"""

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing import Pool
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from PIL import Image

from tasks.bundled.pictures import PictureSet
from tasks.diffusion.worlds.drawing import BACKGROUNDS, SIZE, Colour, with_article

PACKAGES = Path("build/icons")
# version, and the drawing style that captions name
SETS = {
    "noto": ("1.2.9", "shaded"),
    "fluent-emoji-flat": ("1.2.6", "flat"),
    "twemoji": ("1.2.5", "flat"),
    "emojione": ("1.2.3", "shaded"),
    "fxemoji": ("1.2.2", "soft"),
    "flat-color-icons": ("1.2.3", "simple"),
}
DULL = re.compile(
    r"skin|tone|flag|letter|arrow|clock(?! face)|oclock|thirty|button|keycap|regional|squared|latin|sign|symbol"
    r"|^\w$|^\d+$|\d\d|family|kiss-|couple-with|people-holding|men-holding|women-holding"
)
SHADES: dict[str, Colour] = BACKGROUNDS | {
    "blue": (120, 160, 235),
    "green": (130, 200, 130),
    "yellow": (250, 232, 130),
    "pink": (250, 200, 220),
    "purple": (190, 160, 225),
    "gray": (205, 205, 210),
    "black": (44, 44, 50),
}
SKIN_TONE = re.compile(r"-(medium-)?(light|dark)$|-medium$")
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
DRAWN_AT = 2 * SIZE


@dataclass(frozen=True)
class Icon:
    """An icon's name in plain words, its set, and its SVG."""

    name: str
    of: str
    svg: str

    @property
    def style(self) -> str:
        return SETS[self.of][1]

    @property
    def held_out(self) -> bool:
        """Every tenth name, in all sets: the same words in another order or number are the same name."""
        words = sorted(word.rstrip("s") for word in self.name.split() if word not in ("face", "with", "of", "the"))
        return crc32(" ".join(words).encode()) % 10 == 0


@cache
def icons() -> list[Icon]:
    """The icons of all sets that show a thing, with words for names, in a fixed order."""
    found = [
        Icon(key.replace("-", " "), name, svg) for name in SETS for key, svg in _svgs(name) if not DULL.search(key)
    ]
    # fxemoji writes its names in one word: those that another set spells out are kept
    spelt = {icon.name.replace(" ", ""): icon.name for icon in found if icon.of != "fxemoji"}
    known = [
        Icon(spelt[icon.name], icon.of, icon.svg) if icon.of == "fxemoji" else icon
        for icon in found
        if icon.of != "fxemoji" or icon.name in spelt
    ]
    return known


def _svgs(name: str) -> Iterator[tuple[str, str]]:
    """The key and the SVG of each icon of a set, whose package is fetched if it is not in PACKAGES."""
    version, _ = SETS[name]
    file = PACKAGES / f"iconify-json-{name}-{version}.tgz"
    if not file.exists():
        PACKAGES.mkdir(parents=True, exist_ok=True)
        package = f"@iconify-json/{name}@{version}"
        subprocess.run(["npm", "pack", package, "--silent", "--pack-destination", str(PACKAGES)], check=True)
    with tarfile.open(file) as package:
        data = json.load(package.extractfile("package/icons.json"))  # pyright: ignore[reportArgumentType]
    for key, icon in data["icons"].items():
        if SKIN_TONE.sub("", key) != key and SKIN_TONE.sub("", key) in data["icons"]:
            continue  # a person in another colour
        sides = {side: icon.get(side, data.get(side, 0)) for side in ("left", "top", "width", "height")}
        box = "{left} {top} {width} {height}".format(**sides)
        yield key, f'<svg {NAMESPACES} viewBox="{box}">{icon["body"]}</svg>'


@cache
def _rasters() -> list[np.ndarray]:
    """Every icon, uint8 (128, 128, 4) with transparency."""
    with Pool(2) as pool:
        return pool.map(_raster, [icon.svg for icon in icons()], chunksize=100)


def _raster(svg: str) -> np.ndarray:
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=DRAWN_AT, height=DRAWN_AT)
    picture = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    square = Image.new("RGBA", (DRAWN_AT, DRAWN_AT))
    square.paste(picture, ((DRAWN_AT - picture.width) // 2, (DRAWN_AT - picture.height) // 2))
    return np.asarray(square)


def icon_pictures(seed: int, held_out: bool = False, each: int = 1, named: bool = False) -> PictureSet:
    """`each` pictures of every icon whose name is (not) held out: on a coloured ground, mirrored, turned and scaled.

    `named`: captions of one wording that say the name alone.
    """
    chosen = [i for i, icon in enumerate(icons()) if icon.held_out == held_out]
    rasters = _rasters()
    pixels, captions = [], []
    for number in range(each):
        for i in chosen:
            rng = np.random.default_rng([seed, number, i])
            shade = "white" if rng.random() < 0.3 else str(rng.choice([*SHADES]))
            pixels.append(_placed(rasters[i], SHADES[shade], rng))
            wordings = captions_of(icons()[i].name, icons()[i].style, shade)
            captions.append(wordings[0] if named else wordings[rng.integers(len(wordings))])
    return PictureSet(
        torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), captions, [{}] * len(captions)
    )


def captions_of(name: str, style: str, shade: str) -> list[str]:
    """Captions in several wordings, in the grammar of the drawn worlds; the first one says the name alone."""
    thing, ground = with_article(name), f"{with_article(shade)} background"
    return [
        f"a picture of {thing}",
        f"a picture of {thing} on {ground}",
        f"a picture of {thing}, on {ground}",
        f"a {style} picture of {thing}, {shade} background",
        f"{thing} on {ground}",
        f"a picture of {name}",
        name,
    ]


def _placed(raster: np.ndarray, ground: Colour, rng: np.random.Generator) -> np.ndarray:
    """The icon on a ground, uint8 (64, 64, 3)."""
    picture = Image.fromarray(raster)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = round(SIZE * rng.uniform(0.74, 0.98))
    picture = picture.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC).resize((side, side), Image.Resampling.BOX)
    shift = tuple(round(v) for v in (SIZE - side) / 2 + rng.uniform(-3, 3, 2))
    shaded = np.clip(np.array(ground) + rng.integers(-5, 6, 3), 0, 255)
    canvas = Image.new("RGB", (SIZE, SIZE), tuple(int(v) for v in shaded))
    canvas.paste(picture, shift, picture)
    return np.asarray(canvas)
