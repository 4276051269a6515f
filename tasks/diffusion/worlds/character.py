"""The drawn subject of `sd-dreambooth`: one mushroom with a face, in several poses, that no base has ever seen.

The bundled base knows the class, plain mushrooms without a face (`objects.py`), but not this one.
"""

import math
from typing import ClassVar

import numpy as np

from tasks.diffusion.worlds.drawing import BACKGROUNDS, Attributes, Colour, DrawnWorld, Pen, circle, jitter

INK = (38, 26, 40)
CAP, SPOTS, STEM, BOOTS = (128, 66, 178), (252, 214, 72), (246, 236, 214), (196, 62, 52)
CHEEKS, EYES, WHITE = (246, 164, 160), (30, 24, 34), (255, 255, 255)
HANDS = {  # position of the left and the right hand
    "standing": ((-0.62, 0.62), (0.62, 0.62)),
    "waving": ((-0.62, 0.62), (0.74, 0.0)),
    "jumping": ((-0.74, 0.02), (0.74, 0.02)),
    "walking": ((-0.5, 0.78), (0.7, 0.4)),
}
FEET = {  # of the left and the right foot: distance from the middle, height above the ground
    "standing": ((-0.2, 0.0), (0.2, 0.0)),
    "waving": ((-0.2, 0.0), (0.2, 0.0)),
    "jumping": ((-0.3, 0.06), (0.3, 0.06)),
    "walking": ((-0.34, 0.0), (0.3, 0.14)),
}


class Character(DrawnWorld):
    """4 poses x 3 leanings x 4 backgrounds of the same figure, with jitter of position and size."""

    attributes: ClassVar = {
        "pose": tuple(HANDS),
        "leaning": ("left", "upright", "right"),
        "background": tuple(BACKGROUNDS),
    }

    def held_out(self, attributes: Attributes) -> bool:
        return attributes["background"] in ("sky", "mint")

    def captions(self, attributes: Attributes) -> list[str]:
        return [f"a picture of sks mushroom on a {attributes['background']} background"]

    def draw(self, attributes: Attributes, rng: np.random.Generator) -> np.ndarray:
        pose = attributes["pose"]
        lean = {"left": -12, "upright": 0, "right": 12}[attributes["leaning"]] + rng.uniform(-3, 3)
        lifted = 10 if pose == "jumping" else 0
        centre = (64 + rng.uniform(-6, 6), 62 - lifted + rng.uniform(-3, 3))
        background = jitter(BACKGROUNDS[attributes["background"]], rng, 5)
        pen = Pen(background, centre, 50 * rng.uniform(0.94, 1.04), lean, 5, INK)
        _draw_limbs(pen, pose)
        _draw_stem(pen)
        _draw_cap(pen, CAP)
        return pen.pixels()


def _draw_limbs(pen: Pen, pose: str) -> None:
    for side, (hand, foot) in enumerate(zip(HANDS[pose], FEET[pose], strict=True)):
        shoulder = (-0.3 if side == 0 else 0.3, 0.42)
        pen.line([shoulder, hand], INK, 13)
        pen.line([shoulder, hand], STEM, 6)
        pen.ellipse(*hand, 0.1, 0.1, STEM, 3)
        pen.ellipse(foot[0], 0.98 - foot[1], 0.24, 0.15, BOOTS)


def _draw_stem(pen: Pen) -> None:
    pen.polygon(circle(28) * [0.42, 0.56] + [0, 0.44], STEM)
    for side in (-1, 1):
        pen.ellipse(side * 0.17, 0.4, 0.09, 0.13, EYES, 0)
        pen.ellipse(side * 0.17 - 0.03, 0.35, 0.035, 0.04, WHITE, 0)
        pen.ellipse(side * 0.29, 0.58, 0.08, 0.06, CHEEKS, 0)
    pen.line([(-0.1, 0.6), (0, 0.67), (0.1, 0.6)], INK, 4)


def _draw_cap(pen: Pen, colour: Colour) -> None:
    brim = np.array([(0.98, 0.2), (0.5, 0.3), (-0.5, 0.3), (-0.98, 0.2)])
    dome = circle(18, math.pi, 2 * math.pi) * [1.0, 1.02] + [0, 0.12]
    pen.polygon(np.concatenate([dome, brim]), colour)
    for x, y, radius in [(-0.5, -0.22, 0.17), (0.08, -0.56, 0.2), (0.58, -0.12, 0.15), (-0.05, 0.04, 0.12)]:
        pen.ellipse(x, y, radius, radius * 0.92, SPOTS, 0)
