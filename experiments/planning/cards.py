"""GPUs by name: their memory and the peak rates that their makers publish."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from experiments.errors import UsageError, did_you_mean

FILE = Path(__file__).with_name("cards.json")
# rates by autocast dtype, the fastest first: products of fp32 numbers are computed in TF32 where the card has it
RATES: Mapping[str, tuple[str, ...]] = {"no": ("tf32", "fp32"), "fp16": ("fp16",), "bf16": ("bf16", "fp32")}
USABLE = 0.93  # GiB that torch finds on a card, for each GB that it is sold with: 0.91 to 0.99 on those in cards.json
LARGEST = 1000  # GB
# words that tell no cards apart
NO_NAMES = r"(?<![a-z0-9])(nvidia|geforce|tesla|rtx|gpu|graphics|card|pcie|sxm(\d(?!\d))?|hbm\w*)(?![a-z])"


@dataclass(frozen=True)
class Card:
    """A GPU: GB as sold, TFLOP/s by dtype (empty if unknown), and GiB that torch reports where that is known."""

    name: str
    memory: float
    tflops: Mapping[str, float]
    source: str
    reported: float | None = None
    reported_by: str | None = None

    @property
    def usable(self) -> float:
        """GiB that a program can use."""
        return usable(self.memory) if self.reported is None else self.reported

    @property
    def half(self) -> Literal["bf16", "fp16"] | None:
        """The 16-bit dtype in which a run computes there by default; None if unknown."""
        if not self.tflops:
            return None
        return "bf16" if "bf16" in self.tflops else "fp16"

    def rate(self, mixed_precision: str) -> tuple[str, float] | None:
        """The dtype of the products in a precision, and their FLOP/s; None if unknown."""
        known = [dtype for dtype in RATES[mixed_precision] if dtype in self.tflops]
        return (known[0], self.tflops[known[0]] * 1e12) if known else None

    def __str__(self) -> str:
        if self.reported is None:
            return f"{self.name} (about {self.usable:.2f} GiB usable, 7 % less than the {self.memory:g} GB as sold)"
        return f"{self.name} ({self.usable:.2f} GiB usable, as reported in {self.reported_by})"


def usable(sold: float) -> float:
    """GiB that a program can use of a card that is sold with so many GB: 7 % less."""
    return USABLE * sold


@cache
def known_cards() -> Mapping[str, Card]:
    cards = json.loads(FILE.read_text())["cards"]
    return {name: Card(name, **values) for name, values in cards.items()}


def known_card(name: str) -> Card | None:
    """A card by name: as in cards.json, as people type it ("RTX 4090", "4090"), or its driver's. None for others."""
    return next((card for card in known_cards().values() if _spelt(name) in _spellings(card)), None)


def card_of(name: str) -> Card:
    """A card by name (`known_card`), or one of so many GB ("12"). Raises UsageError for others."""
    known = known_card(name)
    if known is not None:
        return known
    number = re.fullmatch(r"(\d+(?:\.\d+)?)(?:\s*gi?b)?", name.strip().lower())
    memory = float(number[1]) if number else 0.0
    if not 0 < memory <= LARGEST:
        raise UsageError(
            f"--card '{name}' is neither a card{_hint(name)} nor a number of GB up to {LARGEST}: give one of "
            f"{', '.join(known_cards())}, or for example --card 12"
        )
    return Card(f"{memory:g} GB", memory, {}, "")


def _spellings(card: Card) -> Iterator[str]:
    """The name, and the name with the memory."""
    yield _spelt(card.name)
    yield _spelt(f"{card.name}{card.memory:g}gb")


def _spelt(name: str) -> str:
    """Letters and digits alone, without words that many cards share."""
    return re.sub("[^a-z0-9.]", "", re.sub(NO_NAMES, "", re.sub("[-_]", " ", name.lower())))


def _hint(name: str) -> str:
    """ " (did you mean 'x' or 'y'?)" for the cards that begin with this name; else for the nearest one."""
    begun = [
        f"'{card.name}'"
        for card in known_cards().values()
        if _spelt(name) and _spelt(card.name).startswith(_spelt(name))
    ]
    return f" (did you mean {' or '.join(begun)}?)" if begun else did_you_mean(name, known_cards())
