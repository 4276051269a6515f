"""The drawn world on which, beside icons, the bundled Stable Diffusion is pretrained: everyday objects."""

import math
from typing import ClassVar

import numpy as np

from tasks.diffusion.worlds.drawing import (
    BACKGROUNDS,
    COLOURS,
    Attributes,
    Colour,
    DrawnWorld,
    Pen,
    circle,
    jitter,
    mix,
)
from tasks.english import with_article

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


class Objects(DrawnWorld):
    """12 kinds x 10 colours x 2 sizes x 4 backgrounds, with jitter, rotation and three outline widths."""

    attributes: ClassVar = {
        "kind": (
            "ball", "box", "star", "heart", "house", "tree", "car", "cup", "fish", "mushroom", "rocket", "flower",
        ),
        "colour": tuple(COLOURS),
        "size": ("small", "big"),
        "background": tuple(BACKGROUNDS),
    }  # fmt: skip

    def captions(self, attributes: Attributes) -> list[str]:
        kind, colour, size, background = (attributes[name] for name in self.attributes)
        return [
            f"a {size} {colour} {kind} on a {background} background",
            f"a picture of {with_article(colour)} {kind}",
            f"{with_article(colour)} {kind} on a {background} background",
            f"{colour} {kind}",
            f"a drawing of a {size} {colour} {kind}, {background} background",
        ]

    def draw(self, attributes: Attributes, rng: np.random.Generator) -> np.ndarray:
        colour = jitter(COLOURS[attributes["colour"]], rng)
        background = jitter(BACKGROUNDS[attributes["background"]], rng, 5)
        scale = (36 if attributes["size"] == "small" else 54) * rng.uniform(0.92, 1.06)
        outline = float(rng.choice([0, 2.5, 4]))
        centre = (64 + rng.uniform(-7, 7), 64 + rng.uniform(-7, 7))
        pen = Pen(background, centre, scale, rng.uniform(-12, 12), outline, mix(colour, (20, 20, 20), 0.6))
        draw = getattr(self, f"_draw_{attributes['kind']}")
        draw(pen, colour, mix(colour, BLACK, 0.3), mix(colour, WHITE, 0.45), background, scale)
        return pen.pixels()

    def _draw_ball(self, pen: Pen, colour: Colour, dark: Colour, light: Colour, background: Colour, scale: float):
        pen.ellipse(0, 0, 0.85, 0.85, colour)
        pen.line([(-0.8, -0.1), (-0.3, 0.15), (0.3, 0.15), (0.8, -0.1)], light, scale * 0.16)
        pen.ellipse(-0.32, -0.4, 0.18, 0.14, light, 0)

    def _draw_box(self, pen: Pen, colour: Colour, dark: Colour, light: Colour, background: Colour, scale: float):
        pen.polygon([(-0.8, -0.7), (0.8, -0.7), (0.8, 0.8), (-0.8, 0.8)], colour)
        pen.polygon([(-0.9, -0.85), (0.9, -0.85), (0.9, -0.4), (-0.9, -0.4)], dark)
        pen.polygon([(-0.15, -0.85), (0.15, -0.85), (0.15, 0.8), (-0.15, 0.8)], light, 0)

    def _draw_star(self, pen: Pen, colour: Colour, dark: Colour, light: Colour, background: Colour, scale: float):
        radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.45)[:, None]
        pen.polygon(circle(10, -math.pi / 2, 1.5 * math.pi) * radius, colour)

    def _draw_heart(self, pen: Pen, colour: Colour, dark: Colour, light: Colour, background: Colour, scale: float):
        t = np.linspace(0, 2 * math.pi, 40, endpoint=False)
        y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
        pen.polygon(np.stack([16 * np.sin(t) ** 3 / 17, y], axis=1), colour)

    def _draw_house(self, pen: Pen, colour: Colour, dark: Colour, light: Colour, background: Colour, scale: float):
        pen.polygon([(-0.7, -0.1), (0.7, -0.1), (0.7, 0.85), (-0.7, 0.85)], colour)
        pen.polygon([(-0.95, -0.1), (0, -0.95), (0.95, -0.1)], dark)
        pen.polygon([(-0.2, 0.25), (0.2, 0.25), (0.2, 0.85), (-0.2, 0.85)], light, 0)

    def _draw_tree(self, pen: Pen, colour: Colour, dark: Colour, light: Colour, background: Colour, scale: float):
        pen.polygon([(-0.15, 0.2), (0.15, 0.2), (0.18, 0.95), (-0.18, 0.95)], (120, 80, 45))
        pen.polygon([(-0.75, 0.4), (0, -0.3), (0.75, 0.4)], dark)
        pen.polygon([(-0.6, -0.1), (0, -0.95), (0.6, -0.1)], colour)

    def _draw_car(self, pen: Pen, colour: Colour, dark: Colour, light: Colour, background: Colour, scale: float):
        pen.polygon([(-0.5, -0.05), (-0.3, -0.5), (0.35, -0.5), (0.6, -0.05)], light)
        pen.polygon([(-0.98, -0.1), (0.85, -0.1), (0.98, 0.1), (0.98, 0.4), (-0.98, 0.4)], colour)
        for x in (-0.5, 0.5):
            pen.ellipse(x, 0.42, 0.24, 0.24, (40, 40, 44), 0)

    def _draw_cup(self, pen: Pen, colour: Colour, dark: Colour, light: Colour, background: Colour, scale: float):
        pen.ellipse(0.62, 0.05, 0.36, 0.36, colour)
        pen.ellipse(0.62, 0.05, 0.18, 0.18, background, 0)
        pen.polygon([(-0.7, -0.6), (0.55, -0.6), (0.42, 0.8), (-0.55, 0.8)], colour)
        pen.ellipse(-0.07, -0.6, 0.62, 0.16, light)

    def _draw_fish(self, pen: Pen, colour: Colour, dark: Colour, light: Colour, background: Colour, scale: float):
        pen.polygon([(0.4, 0), (0.98, -0.5), (0.98, 0.5)], dark)
        pen.ellipse(-0.15, 0, 0.75, 0.48, colour)
        pen.ellipse(-0.52, -0.12, 0.13, 0.13, WHITE, 0)
        pen.ellipse(-0.54, -0.12, 0.07, 0.07, (20, 20, 20), 0)

    def _draw_mushroom(self, pen: Pen, colour: Colour, dark: Colour, light: Colour, background: Colour, scale: float):
        pen.polygon([(-0.24, 0), (0.24, 0), (0.32, 0.85), (-0.32, 0.85)], (242, 230, 205))
        pen.polygon(circle(18, math.pi, 2 * math.pi) * [0.92, 0.95] + [0, 0.15], colour)
        for x, y in [(-0.45, -0.2), (0.1, -0.5), (0.5, -0.12)]:
            pen.ellipse(x, y, 0.13, 0.13, light, 0)

    def _draw_rocket(self, pen: Pen, colour: Colour, dark: Colour, light: Colour, background: Colour, scale: float):
        for side in (-1, 1):
            pen.polygon([(side * 0.32, 0.3), (side * 0.75, 0.85), (side * 0.3, 0.75)], dark)
        pen.polygon([(-0.18, 0.75), (0.18, 0.75), (0, 1.05)], (250, 170, 40), 0)
        hull = [(-0.35, 0.75), (-0.4, -0.1), (-0.22, -0.65), (0, -1), (0.22, -0.65), (0.4, -0.1), (0.35, 0.75)]
        pen.polygon(hull, colour)
        pen.ellipse(0, -0.15, 0.19, 0.19, light)

    def _draw_flower(self, pen: Pen, colour: Colour, dark: Colour, light: Colour, background: Colour, scale: float):
        pen.line([(0, 0.1), (0.02, 1)], (60, 140, 60), scale * 0.14)
        pen.polygon([(0, 0.75), (0.45, 0.4), (0.4, 0.7)], (70, 160, 70), 0)
        for x, y in circle(5, -math.pi / 2, 1.5 * math.pi) * 0.42 + [0, -0.25]:
            pen.ellipse(x, y, 0.31, 0.31, colour)
        heart = (150, 90, 40) if colour[0] > 200 and colour[1] > 180 else (250, 215, 70)
        pen.ellipse(0, -0.25, 0.24, 0.24, heart, 0)
