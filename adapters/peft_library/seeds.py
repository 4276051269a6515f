"""Seeds among peft's options, set from the run's seed: peft gives most of them a constant default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from adapters.peft_library.options import config_class_of

# Of what attaching draws. Not pvera's `generator_seed`, of draws in forward passes: the training loop seeds those, so
# that an interrupted run resumes exactly.
SEED_OPTIONS = ("projection_prng_key", "projection_seed", "proj_seed", "random_loc_seed", "random_seed")
STRIDE = 1_000_003  # between runs: tinylora adds the layer's number to its seed
LARGEST = 2**31  # that every generator takes


def peft_seeds(method: str) -> dict[str, int | None]:
    """peft's own values of the method's seeds, by option; empty for a method without one."""
    defaults: dict[str, Any] = {f.name: f.default for f in fields(config_class_of(method))}
    return {name: defaults[name] for name in SEED_OPTIONS if name in defaults}


def open_seeds(method: str, options: Mapping[str, object]) -> dict[str, int]:
    """The method's seeds that the options leave open, for the seed that torch's generator was set to.

    Seed 0 gives peft's own values (0 where peft has none).
    """
    import torch

    offset = STRIDE * torch.initial_seed()
    return {
        name: ((value or 0) + offset) % LARGEST for name, value in peft_seeds(method).items() if name not in options
    }
