"""The shape of a curve of quality over size, in words: a plateau, a curve that never crosses, a crossing by chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from experiments.search.bisection import Crossing

FLAT = 0.02  # of the goal's gain: a smaller change of quality counts as none
SPAN = 4  # a plateau's largest size is at least this many times its smallest


def shape(gained: Mapping[int, float], crossing: Crossing) -> str | None:
    """What a reader of the crossing must know; None for an ordinary one.

    `gained` is the share of the goal's gain over the untuned base, by size; failed runs are left out.
    """
    if crossing.reaching is None:
        return f"the target is never reached: {_end(gained)}"
    between = [size for size in (crossing.below, crossing.reaching) if size is not None and size in gained]
    if len(between) == 2 and _rise(between, gained) <= FLAT:
        return f"the target lies on a plateau ({_range(between, gained)}), where noise decides the crossing"
    return None


def plateau(sizes: Sequence[int], gained: Mapping[int, float]) -> list[int] | None:
    """The largest of ascending `sizes`, as many as differ by at most FLAT in gain; None if they span less than SPAN."""
    flat: list[int] = []
    for size in reversed(sizes):
        shares = [gained[each] for each in [size, *flat]]
        if max(shares) - min(shares) > FLAT:
            break
        flat.insert(0, size)
    return flat if flat and flat[-1] >= SPAN * flat[0] else None


def _rise(between: Sequence[int], gained: Mapping[int, float]) -> float:
    """Change of the share of the gain for SPAN times the size, between two sizes."""
    below, reaching = between
    return abs(gained[reaching] - gained[below]) * math.log(SPAN) / math.log(reaching / below)


def _end(gained: Mapping[int, float]) -> str:
    sizes = sorted(gained)
    flat = plateau(sizes, gained)
    if flat:
        return f"a plateau, {_range(flat, gained)}"
    return f"{gained[sizes[-1]]:.1%} of the gain at {sizes[-1]:,}, without a plateau" if sizes else "every run failed"


def _range(sizes: Sequence[int], gained: Mapping[int, float]) -> str:
    shares = [gained[size] for size in sizes]
    return f"{min(shares):.1%} to {max(shares):.1%} of the gain from {sizes[0]:,} to {sizes[-1]:,}"
