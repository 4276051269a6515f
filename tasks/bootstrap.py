"""Percentile bootstrap intervals over items (Efron 1979), for means and corpus metrics alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 500
SEED = 0


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float], items: int, resamples: int = RESAMPLES
) -> tuple[float | None, float | None]:
    """95 % percentile interval of `statistic(indices)`, with `items` items resampled; (None, None) for one item.

    Resamples in which the statistic is undefined (NaN) do not count.
    """
    if items < 2:
        return None, None
    import numpy as np
    from scipy.stats import bootstrap

    result = bootstrap(
        (np.arange(items),),
        statistic,
        n_resamples=resamples,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    defined = result.bootstrap_distribution[~np.isnan(result.bootstrap_distribution)]
    if not len(defined):
        return None, None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
