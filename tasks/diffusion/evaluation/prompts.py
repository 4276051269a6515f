"""Prompts that an evaluation samples: the task's own, and those of the data that the base was pretrained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.bundled.bundled_bases import STABLE_DIFFUSION

OBJECT_STREAM = 5  # drawings for the bundled base's prompts; the training and test splits use other streams
GENERAL_PROMPTS = [
    "a red car parked in a street", "a bowl of fruit on a wooden table", "a lighthouse on a rocky coast",
    "a portrait of an old man with a beard", "a snowy mountain under a clear sky", "a cup of coffee and a book",
    "a city at night seen from above", "a white cat sleeping on a sofa", "a sailing boat on a calm lake",
    "an old stone bridge over a river", "a field of sunflowers in summer", "a train arriving at a station",
    "a vase of tulips by a window", "a person riding a bicycle in the rain", "a wooden cabin in a forest",
    "a plate of pasta with basil",
]  # fmt: skip


@dataclass(frozen=True)
class Prompt:
    """`text` is sampled. `caption` says the same in words that an independent CLIP knows: it differs from `text` if
    that names a subject by a rare word. `attributes` are the values that the picture must show, if they are known.
    """

    text: str
    caption: str
    attributes: Mapping[str, str] = field(default_factory=dict)


def base_prompts(base: str, count: int) -> list[Prompt]:
    """At most `count` prompts from the base's pretraining domain: objects for the bundled base, general scenes else."""
    if base != STABLE_DIFFUSION:
        return [Prompt(text, text) for text in GENERAL_PROMPTS[:count]]
    from tasks.diffusion.worlds.objects import Objects

    drawings = [Objects().example(OBJECT_STREAM, index, full_caption=True) for index in range(count)]
    return [Prompt(drawing.caption, drawing.caption, drawing.attributes) for drawing in drawings]
