"""The smallest difference between two groups that a study of this size can be expected to find."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from reports.statistics.seeds import Estimate, holm

POWER = 0.8
QUANTILES = (np.arange(100) + 0.5) / 100


def detectable_difference(estimate: Estimate, level: float) -> float:
    """The true difference that a repetition of the study finds with a probability of 80 % at significance `level`.

    The standard error is itself an estimate, which is poor with few seeds: the probability is an average over it too.
    """
    return estimate.error * _errors_needed(round(estimate.df, 2), level)


@lru_cache(maxsize=4096)
def _errors_needed(df: float, level: float) -> float:
    """The detectable difference in estimated standard errors.

    With true standard error 1, the estimates of this study (u) and of its repetition (s) are both distributed as
    sqrt(chi2(df) / df); the repetition finds k u with the probability that a standard normal exceeds t s - k u.
    """
    from scipy.optimize import brentq
    from scipy.special import chdtri, ndtr, stdtrit

    critical = float(stdtrit(df, 1 - level / 2))
    estimates = np.sqrt(chdtri(df, 1 - QUANTILES) / df)

    def lacking(k: float) -> float:
        return float(ndtr(k * estimates[:, None] - critical * estimates).mean()) - POWER

    return float(brentq(lacking, 0, 100 * (critical + 1), rtol=1e-4))  # type: ignore[arg-type]


def levels_in_use(p_values: Sequence[float | None], level: float) -> list[float | None]:
    """The significance level at which Holm's procedure tested each comparison, from its unadjusted p-value.

    The k-th smallest of m p-values is tested at level / (m - k + 1); the procedure stops at the first that misses its
    level, at which all later ones therefore fail too. (Adjusted p-values are often equal, and then have no order.)
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    rejected = sum(p is not None and p < level for p in holm(p_values))
    levels: list[float | None] = [None] * len(p_values)
    for rank, (_, i) in enumerate(known):
        levels[i] = level / (len(known) - min(rank, rejected))
    return levels
