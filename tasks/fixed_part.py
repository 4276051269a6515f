"""A part of an evaluation's items, the same in every run, for curves over training."""

from __future__ import annotations

import math

LEAST = 2  # items, without which there is no interval


def fixed_part(count: int, share: float, least: int = LEAST) -> list[int]:
    """The indices of `share` of `count` items (at least `least`, if there are so many), drawn once and for all."""
    import numpy as np

    size = min(count, max(least, math.ceil(share * count)))
    return sorted(np.random.default_rng(0).permutation(count)[:size].tolist())
