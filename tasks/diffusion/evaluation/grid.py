"""Grids of pictures: one named row per model, one column per prompt."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL, MARGIN, LABEL, LINE = 128, 6, 64, 13
MOST_LINES = 16  # of a caption above its column: more than the 77 tokens that CLIP reads


def save_before_after(rows: Mapping[str, Tensor], captions: Sequence[str], file: Path) -> None:
    """Save a grid with one row per named set of pictures uint8 (n, 3, h, w) and the captions above."""
    file.parent.mkdir(parents=True, exist_ok=True)
    grid_of(rows, captions).save(file)


def grid_of(rows: Mapping[str, Tensor], captions: Sequence[str], cell: int = CELL) -> Image.Image:
    """The grid as an image, with cells of `cell` x `cell` pixels; a row's name may have several lines."""
    font = ImageFont.load_default(size=11)
    wrapped = [textwrap.wrap(caption, cell // 6, max_lines=MOST_LINES, placeholder=" …") for caption in captions]
    top = LINE * max(len(lines) for lines in wrapped) + 2 * MARGIN
    columns = len(captions)
    size = (LABEL + columns * (cell + MARGIN), top + len(rows) * (cell + MARGIN))
    page = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    for column, lines in enumerate(wrapped):
        pen.multiline_text((LABEL + column * (cell + MARGIN), MARGIN), "\n".join(lines), "#333333", font, spacing=2)
    for row, (name, pictures) in enumerate(rows.items()):
        y = top + row * (cell + MARGIN)
        pen.text((MARGIN, y + cell // 2), name, "#333333", font)
        for column, picture in enumerate(pictures):
            page.paste(_cell(picture, cell), (LABEL + column * (cell + MARGIN), y))
    return page


def save_pictures(pixels: Tensor, folder: Path) -> list[Path]:
    """Save pictures uint8 (n, 3, height, width) as 0.png, 1.png, ... and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i}.png" for i in range(len(pixels))]
    for file, picture in zip(files, pixels, strict=True):
        _image(picture).save(file)
    return files


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()))


def _cell(picture: Tensor, size: int) -> Image.Image:
    image = _image(picture)
    small = max(image.size) < size
    return image.resize((size, size), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS)
