"""The drawn world of `sd-pokemon`: creatures, which the bundled base has never seen."""

import zlib
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

INK = (26, 24, 32)
WHITE = (255, 255, 255)
HALF_SIZES = {"round": (0.66, 0.66), "tall": (0.5, 0.82), "long": (0.88, 0.5), "pear": (0.7, 0.74)}
EYE_DISTANCE = {"round": 0.3, "tall": 0.24, "long": 0.34, "pear": 0.24}


class Creatures(DrawnWorld):
    """4 bodies x 10 colours x 3 eyes x 5 heads x 3 limbs x belly or not x 4 backgrounds; thick outline, shading.

    About one sixth of the combinations of colour, eyes and head are held out of training for evaluation.
    """

    attributes: ClassVar = {
        "body": ("round", "tall", "long", "pear"),
        "colour": tuple(COLOURS),
        "eyes": ("cute", "angry", "sleepy"),
        "head": ("ears", "horns", "antennae", "crest", "none"),
        "limb": ("tail", "wings", "none"),
        "belly": ("belly", "none"),
        "background": tuple(BACKGROUNDS),
    }

    def held_out(self, attributes: Attributes) -> bool:
        combination = "|".join(attributes[name] for name in ("colour", "eyes", "head"))
        return zlib.crc32(combination.encode()) % 6 == 0

    def captions(self, attributes: Attributes) -> list[str]:
        body, colour, background = attributes["body"], attributes["colour"], attributes["background"]
        head = {"none": "a bare head", "crest": "a crest"}.get(attributes["head"], attributes["head"])
        limb = {"none": "", "tail": ", a tail", "wings": ", wings"}[attributes["limb"]]
        belly = {"none": "", "belly": " and a light belly"}[attributes["belly"]]
        eyes = f"{attributes['eyes']} eyes"
        return [
            f"a {body} {colour} creature with {head}, {eyes}{limb}{belly} on a {background} background",
            f"{with_article(colour)} creature with {head}, {eyes}{limb} on a {background} background",
            f"a picture of a {body} {colour} creature with {head}, {eyes}{limb}{belly}",
            f"a {body} {colour} creature, {head}, {eyes}{limb}{belly}, {background} background",
        ]

    def draw(self, attributes: Attributes, rng: np.random.Generator) -> np.ndarray:
        colour = jitter(COLOURS[attributes["colour"]], rng)
        background = jitter(BACKGROUNDS[attributes["background"]], rng, 5)
        scale = 52 * rng.uniform(0.93, 1.05)
        centre = (64 + rng.uniform(-5, 5), 70 + rng.uniform(-4, 4))
        pen = Pen(background, centre, scale, rng.uniform(-7, 7), 6.5, INK)
        body = attributes["body"]
        width, height = np.array(HALF_SIZES[body]) * rng.uniform(0.95, 1.05, 2)
        light = mix(colour, WHITE, 0.55)
        _draw_limb(pen, attributes["limb"], body, width, height, colour, light)
        _draw_head(pen, attributes["head"], width * (0.38 if body == "pear" else 0.5), height, colour, attributes)
        _draw_body(pen, body, width, height, colour, light, attributes["belly"])
        eye_height = -height * (0.2 if body == "pear" else 0.12)
        _draw_face(pen, attributes["eyes"], EYE_DISTANCE[body], eye_height, light)
        return pen.pixels()


def _draw_limb(pen: Pen, limb: str, body: str, width: float, height: float, colour: Colour, light: Colour) -> None:
    if limb == "tail":
        if body == "long":
            path, tip = [(width * 0.8, 0.1), (width + 0.08, -0.15)], (width + 0.06, -0.5)
        else:
            path = [(width * 0.7, height * 0.5), (width + 0.12, height * 0.35), (width + 0.22, -0.05)]
            tip = (width + 0.02, -0.25)
        pen.line([*path, tip], INK, 21)
        pen.line([*path, (tip[0], tip[1] + 0.04)], colour, 10)
    elif limb == "wings":
        for side in (-1, 1):
            wing = [(0.75 * width, -0.02), (width + 0.3, -0.5), (width + 0.36, -0.12), (width + 0.2, 0.08)]
            wing += [(width + 0.24, 0.28), (0.8 * width, 0.3)]
            pen.polygon(np.array(wing) * [side, 1], light)


def _draw_head(pen: Pen, head: str, top: float, height: float, colour: Colour, attributes: Attributes) -> None:
    """`top` is half the width of the body at the height of the head's features."""
    for side in (-1, 1):
        if head == "ears":
            ear = [(top * 0.35, -height * 0.75), (top * 1.15, -height - 0.38), (top * 1.5, -height * 0.55)]
            pen.polygon(np.array(ear) * [side, 1], colour)
        elif head == "horns":
            horn = [(top * 0.5, -height * 0.78), (top * 0.9, -height - 0.08), (top * 0.75, -height - 0.42)]
            horn += [(top * 1.5, -height - 0.12), (top * 1.35, -height * 0.62)]
            pen.polygon(np.array(horn) * [side, 1], (250, 244, 225), 5)
        elif head == "antennae":
            pen.line([(side * top * 0.4, -height * 0.8), (side * top * 0.75, -height - 0.3)], INK, 6)
            pen.ellipse(side * top * 0.8, -height - 0.34, 0.13, 0.13, (250, 220, 70), 4.5)
    if head == "crest":
        crest = [(-0.34, -height * 0.78), (-0.3, -height - 0.26), (-0.1, -height - 0.05), (0, -height - 0.42)]
        crest += [(0.12, -height - 0.05), (0.3, -height - 0.26), (0.34, -height * 0.78)]
        feathers = (60, 100, 215) if attributes["colour"] in ("red", "orange") else (230, 60, 40)
        pen.polygon(crest, feathers)
        for x in (-0.2, 0, 0.2):
            pen.line([(x * 1.2, -height - 0.12), (x, -height * 0.86)], mix(feathers, WHITE, 0.45), 2.5)


def _draw_body(pen: Pen, body: str, width: float, height: float, colour: Colour, light: Colour, belly: str) -> None:
    dark = mix(colour, (10, 0, 40), 0.35)
    for side in (-1, 1):
        pen.ellipse(side * width * 0.5, height * 0.95, 0.2, 0.14, dark)
    x, y = circle(40).T
    if body == "pear":
        x = x * np.where(y < 0, 1 + 0.42 * y, 1.05)
        x = np.sign(x) * np.abs(x) ** 0.85
    outline = np.stack([width * x, height * y], axis=1)
    pen.polygon(outline, dark)
    pen.polygon(outline * 0.86 - [0.07 * width, 0.09 * height], colour, 0)
    if belly == "belly":
        fur = mix((250, 240, 215), colour, 0.12)
        pen.ellipse(0, height * 0.52, width * 0.5, height * 0.34, fur, 0)
        for x, y in ((-0.24, 0.42), (0.12, 0.4), (-0.06, 0.56), (0.26, 0.58), (-0.28, 0.66), (0.08, 0.72)):
            tuft = [(width * x - 0.04, height * y), (width * x, height * y + 0.05), (width * x + 0.04, height * y)]
            pen.line(tuft, mix(fur, dark, 0.4), 2)
    pen.ellipse(-width * 0.5, -height * 0.58, 0.11, 0.08, light, 0)


def _draw_face(pen: Pen, eyes: str, distance: float, y: float, light: Colour) -> None:
    """`distance` from the middle to each eye, `y` the eyes' height."""
    for side in (-1, 1):
        x = side * distance
        if eyes == "cute":
            pen.ellipse(x, y, 0.2, 0.24, WHITE, 3)
            pen.ellipse(x * 0.95, y + 0.03, 0.13, 0.18, (92, 58, 36), 0)
            pen.ellipse(x * 0.95, y + 0.03, 0.09, 0.13, (20, 18, 26), 0)
            pen.ellipse(x * 0.95 - 0.05, y - 0.06, 0.06, 0.06, WHITE, 0)
            pen.ellipse(x * 0.95 + 0.05, y + 0.1, 0.03, 0.03, WHITE, 0)
        elif eyes == "angry":
            eye = [(distance - 0.2, y), (distance + 0.2, y - 0.22), (distance + 0.18, y + 0.1)]
            pen.polygon(np.array([*eye, (distance - 0.05, y + 0.16)]) * [side, 1], (255, 240, 120), 3)
            pen.ellipse(x, y + 0.02, 0.07, 0.09, (160, 10, 10), 0)
            pen.line([(side * (distance - 0.24), y - 0.02), (side * (distance + 0.24), y - 0.27)], INK, 7)
        else:
            pen.ellipse(x, y, 0.2, 0.2, light, 0)
            pen.line([(x - 0.18, y - 0.02), (x - 0.09, y + 0.1), (x + 0.09, y + 0.1), (x + 0.18, y - 0.02)], INK, 6)
    mouth = y + 0.32
    if eyes == "cute":
        pen.line([(-0.1, mouth), (0, mouth + 0.06), (0.1, mouth)], INK, 4.5)
    elif eyes == "angry":
        pen.line([(-0.15, mouth + 0.06), (-0.05, mouth - 0.02), (0.05, mouth + 0.06), (0.15, mouth - 0.02)], INK, 4.5)
    else:
        pen.ellipse(0, mouth, 0.06, 0.05, INK, 0)
