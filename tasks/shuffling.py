"""The order of training items: every item once an epoch, from (seed, epoch) alone, so that any step can be resumed."""

from functools import lru_cache

import numpy as np


def shuffled_indices(seed: int, step: int, size: int, items: int) -> list[int]:
    """The `size` items of a step: places step*size to (step+1)*size of the epochs' permutations end to end."""
    places = range(step * size, (step + 1) * size)
    return [int(_permutation(seed, place // items, items)[place % items]) for place in places]


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, items: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(items)
