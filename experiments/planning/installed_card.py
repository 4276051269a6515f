"""The GPU of this machine, by its driver: CUDA is not initialised, which would take memory on it."""

from __future__ import annotations

import re
import subprocess
from functools import cache

from experiments.planning.cards import Card, known_cards
from experiments.process.device import visible_gpus

QUERY = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "-i")
OTHER_RATES = ("laptop", "mobile", "max-q")  # these GPUs share a name with a faster one


@cache
def gpu_name() -> str | None:
    """What the driver calls the first GPU that this process may use; None if that is unknown."""
    gpus = visible_gpus()
    if not gpus:
        return None
    try:
        done = subprocess.run([*QUERY, gpus[0]], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def card_named(name: str) -> Card | None:
    """The card of a driver's name, such as "NVIDIA A100-SXM4-80GB"; None for one whose rates are not known."""
    words = re.split(r"[\s-]+", name.lower())
    if any(word in name.lower() for word in OTHER_RATES):
        return None
    cards = known_cards()
    named = [key for key in cards if set(key.split("-")) <= set(words)]
    return cards[max(named, key=len)] if named else None
