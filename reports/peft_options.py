"""Which of peft's options is a method's size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# peft's name of a size: our name; the first with a positive number counts
SIZES = {
    "target_r": "rank",
    "r": "rank",
    "num_virtual_tokens": "length",
    "adapter_len": "length",
    "n_frequency": "frequencies",
}


def size_option(options: Mapping[str, Any]) -> str | None:
    """The name of the option that is the size; None if no size is given."""
    given = {name: options.get(name) for name in SIZES}
    return next((name for name, value in given.items() if type(value) is int and 0 < value < 2**53), None)
