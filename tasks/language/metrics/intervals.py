"""Bootstrap intervals over items (Efron 1979), for means and for corpus metrics alike."""

from collections.abc import Callable

import numpy as np

RESAMPLES = 500
SEED = 0


def interval(
    statistic: Callable[[np.ndarray], float], items: int, resamples: int = RESAMPLES, centre: float | None = None
) -> tuple[float | None, float | None]:
    """The 95 % percentile interval of `statistic(indices)` under resampling of `items` items; None for one item.

    `centre` moves the resampled values' mean to it, for a statistic that resampling biases.
    """
    if items < 2:
        return None, None
    generator = np.random.default_rng(SEED)
    values = np.array([statistic(generator.integers(items, size=items)) for _ in range(resamples)])
    moved = 0.0 if centre is None else centre - values.mean()
    low, high = np.percentile(values, [2.5, 97.5]) + moved
    return float(low), float(high)
