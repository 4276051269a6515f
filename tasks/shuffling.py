"""The order of training items: a new permutation every epoch, drawn from (seed, epoch) so that any step can resume."""

from functools import lru_cache

import numpy as np


def shuffled_indices(seed: int, step: int, size: int, items: int) -> list[int]:
    """Indices of the `size` items of one step: positions step*size to (step+1)*size of the concatenated epochs."""
    positions = range(step * size, (step + 1) * size)
    return [int(_permutation(seed, position // items, items)[position % items]) for position in positions]


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, items: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(items)
