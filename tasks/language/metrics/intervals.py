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
    """95 % percentile interval of `statistic(indices)`, with `items` items resampled; (None, None) for one item."""
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
    low, high = np.percentile(result.bootstrap_distribution, [2.5, 97.5])
    return float(low), float(high)
