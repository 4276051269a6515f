"""The base of the drawn worlds: palettes, a pen in a rotated frame, and numbered, reproducible drawings.

Drawn worlds replace photographs when quality must be known exactly, as dSprites (Matthey et al. 2017) and CLEVR
(Johnson et al. 2017) do: each picture has known attributes, and a caption generated from them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Attributes = dict[str, str]

SIZE = 64  # width and height of a finished drawing in pixels
DRAWING_SIZE = 256  # the same while drawing; the reduction smooths the edges
CANVAS = 128  # the same in the units of pens

COLOURS: dict[str, Colour] = {
    "red": (214, 48, 44),
    "orange": (240, 140, 40),
    "yellow": (246, 214, 60),
    "green": (70, 165, 75),
    "blue": (60, 100, 215),
    "purple": (135, 75, 180),
    "pink": (244, 140, 185),
    "brown": (140, 92, 55),
    "gray": (150, 150, 155),
    "black": (48, 48, 54),
}
BACKGROUNDS: dict[str, Colour] = {
    "white": (255, 255, 255),
    "sky": (190, 225, 250),
    "sand": (245, 228, 190),
    "mint": (198, 240, 208),
}


@dataclass(frozen=True)
class Drawing:
    """A picture, `pixels` uint8 (64, 64, 3), with its attributes and its caption."""

    pixels: np.ndarray
    attributes: Attributes
    caption: str


class DrawnWorld(ABC):
    """A family of captioned drawings, each determined by (seed, index)."""

    attributes: ClassVar[dict[str, tuple[str, ...]]]

    @abstractmethod
    def draw(self, attributes: Attributes, rng: np.random.Generator) -> np.ndarray:
        """Pixels uint8 (64, 64, 3), with small random variations."""

    @abstractmethod
    def captions(self, attributes: Attributes) -> list[str]:
        """Captions in several wordings; the first one states every attribute."""

    def held_out(self, attributes: Attributes) -> bool:
        """Whether training never shows this combination."""
        return False

    def sample_attributes(self, rng: np.random.Generator, held_out: bool | None = None) -> Attributes:
        """Attributes drawn uniformly; `held_out` restricts them to the held-out or the training combinations."""
        while True:
            attributes = {name: values[rng.integers(len(values))] for name, values in self.attributes.items()}
            if held_out is None or self.held_out(attributes) == held_out:
                return attributes

    def example(self, seed: int, index: int, held_out: bool | None = None, full_caption: bool = False) -> Drawing:
        """Drawing number `index` of the stream `seed`; `full_caption` selects the caption with every attribute."""
        rng = np.random.default_rng([seed, index])
        attributes = self.sample_attributes(rng, held_out)
        captions = self.captions(attributes)
        caption = captions[0] if full_caption else captions[rng.integers(len(captions))]
        return Drawing(self.draw(attributes, rng), attributes, caption)

    def redraw(self, attributes: Attributes, seed: int, index: int) -> np.ndarray:
        """Another picture of the same attributes, uint8 (64, 64, 3): its variations are number `index` of `seed`."""
        return self.draw(attributes, np.random.default_rng([seed, index]))


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` (0 to 1) of `second`."""
    red, green, blue = (int(a * (1 - share) + b * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def jitter(colour: Colour, rng: np.random.Generator, amount: int = 10) -> Colour:
    """`colour` with each channel shifted by up to `amount` of 255."""
    shifts = rng.integers(-amount, amount + 1, 3)
    red, green, blue = (int(np.clip(value + shift, 0, 255)) for value, shift in zip(colour, shifts, strict=True))
    return red, green, blue


def circle(points: int = 40, start: float = 0.0, end: float = 2 * math.pi) -> np.ndarray:
    """Points on the unit circle, shape (points, 2)."""
    angle = np.linspace(start, end, points, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


class Pen:
    """Draws in a rotated frame: origin at the figure's centre, y downwards, one unit = `scale` units of the canvas.

    The canvas is 128 units wide; `centre`, `scale` and the widths of lines are in these.
    """

    def __init__(
        self,
        background: Colour,
        centre: tuple[float, float],
        scale: float,
        degrees: float,
        outline: float,
        outline_colour: Colour,
    ):
        self.image = Image.new("RGB", (DRAWING_SIZE, DRAWING_SIZE), background)
        self.drawing = ImageDraw.Draw(self.image)
        self.pixels_per_unit = DRAWING_SIZE / CANVAS
        self.centre = self.pixels_per_unit * np.array(centre)
        angle = math.radians(degrees)
        turned = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        self.frame = self.pixels_per_unit * scale * turned
        self.outline = outline
        self.outline_colour = outline_colour

    def _place(self, points: Sequence | np.ndarray) -> list[tuple[float, float]]:
        return [(x, y) for x, y in (np.asarray(points, float) @ self.frame + self.centre).tolist()]

    def polygon(self, points: Sequence | np.ndarray, fill: Colour, outline: float | None = None) -> None:
        placed = self._place(points)
        width = round(self.pixels_per_unit * (self.outline if outline is None else outline))
        self.drawing.polygon(placed, fill=fill)
        if width:
            self.drawing.line(placed + placed[:2], fill=self.outline_colour, width=width, joint="curve")

    def ellipse(
        self, x: float, y: float, x_radius: float, y_radius: float, fill: Colour, outline: float | None = None
    ) -> None:
        self.polygon(circle(28) * [x_radius, y_radius] + [x, y], fill, outline)

    def line(self, points: Sequence, colour: Colour, width: float) -> None:
        self.drawing.line(self._place(points), fill=colour, width=round(self.pixels_per_unit * width), joint="curve")

    def pixels(self) -> np.ndarray:
        """The drawing at its final size, uint8 (64, 64, 3)."""
        return np.asarray(self.image.resize((SIZE, SIZE), Image.Resampling.BOX))
