"""GPUs by name: their memory and the peak rates that their makers publish."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from experiments.errors import UsageError, did_you_mean

FILE = Path(__file__).with_name("cards.json")
# rates by autocast dtype, the fastest first: products of fp32 numbers are computed in TF32 where the card has it
RATES: Mapping[str, tuple[str, ...]] = {"no": ("tf32", "fp32"), "fp16": ("fp16",), "bf16": ("bf16", "fp32")}


@dataclass(frozen=True)
class Card:
    """A GPU: memory in GB as sold and TFLOP/s by dtype (empty if unknown)."""

    name: str
    memory: float
    tflops: Mapping[str, float]
    source: str

    def rate(self, mixed_precision: str) -> tuple[str, float] | None:
        """The dtype of the products in a precision, and their FLOP/s; None if unknown."""
        known = [dtype for dtype in RATES[mixed_precision] if dtype in self.tflops]
        return (known[0], self.tflops[known[0]] * 1e12) if known else None


@cache
def known_cards() -> Mapping[str, Card]:
    cards = json.loads(FILE.read_text())["cards"]
    return {name: Card(name, **values) for name, values in cards.items()}


def card_of(name: str) -> Card:
    """A card by name, or one of so many GB ("12"). Raises UsageError for anything else."""
    cards = known_cards()
    if name.lower() in cards:
        return cards[name.lower()]
    digits = name.lower().removesuffix("gb").strip()
    try:
        memory = float(digits)
    except ValueError:
        memory = 0.0
    if not 0 < memory < float("inf"):
        begun = [known for known in cards if known.startswith(name.lower())]
        hint = f" (did you mean '{begun[0]}'?)" if begun else did_you_mean(name, cards)
        raise UsageError(
            f"--card '{name}' is neither a card{hint} nor a number of GB: give one of "
            f"{', '.join(cards)}, or for example --card 12"
        )
    return Card(f"{memory:g} GB", memory, {}, "")
