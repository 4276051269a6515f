"""Prompts of four kinds, which ask whether an adapter can be steered, after Yeh et al. 2024 (arXiv 2309.14859).

As in training, the trigger alone, altered content and altered style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.bundled.bundled_bases import STABLE_DIFFUSION
from tasks.diffusion.evaluation.prompts import Prompt

KINDS: Mapping[str, str] = {
    "trained": "prompts as in training",
    "trigger": "the trigger alone",
    "content": "altered content",
    "style": "altered style",
}
STYLES = ("an oil painting of", "a watercolour of", "a pencil sketch of", "pixel art of")
BUNDLED_STYLES = ("a drawing of", "a flat picture of", "a shaded picture of")  # of its pretraining, not of training


def repeated(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """`count` prompts: these in turn."""
    return [prompts[i % len(prompts)] for i in range(count)]


def in_styles(prompts: Sequence[Prompt], base: str) -> list[Prompt]:
    """The prompts in other styles in turn; the bundled base knows words for its own styles only."""
    styles = BUNDLED_STYLES if base == STABLE_DIFFUSION else STYLES
    return [_in_style(prompt, styles[i % len(styles)]) for i, prompt in enumerate(prompts)]


def _in_style(prompt: Prompt, style: str) -> Prompt:
    return Prompt(f"{style} {named(prompt.text)}", f"{style} {named(prompt.caption)}", prompt.attributes)


def named(text: str) -> str:
    """A prompt without its leading words about the picture: "sks dog" of "a photo of sks dog"."""
    for medium in ("picture", "photo", "photograph", "drawing"):
        text = text.removeprefix(f"a {medium} of ")
    return text
