"""Metrics of what a model has memorised: bits recalled, also per trained parameter, and values without an error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tasks.base import Figure, Metric
from tasks.bootstrap import bootstrap_interval

if TYPE_CHECKING:
    import numpy as np

BITS_RECALLED = Metric(
    "bits_recalled",
    "higher",
    "bits",
    "entropy of all values minus their cross-entropy under the model; below 0 it is worse than a uniform guess",
)
BITS_PER_PARAMETER = Metric(
    "bits_per_parameter",
    "higher",
    "bits per trained parameter",
    "bits_recalled divided by the number of trained parameters",
)
EXACT_RECALL = Metric(
    "exact_recall", "higher", "share", "values whose every token is the most likely one, given the tokens before it"
)


def bits_recalled(nats: np.ndarray, entropy: float, count: int, extractor: str, parameters: int) -> dict[str, Figure]:
    """Bits over `count` values of `entropy` bits, from the cross-entropies (n,) in nats of all or of some of them.

    Figures from a part have a bootstrap interval; figures over all values have none, since nothing is estimated. Per
    parameter too, if there are any.
    """
    bits = (entropy - nats / math.log(2)) * (count / len(nats))
    low = high = None
    if len(nats) < count:
        low, high = bootstrap_interval(lambda items: float(bits[items].sum()), len(bits))
    total = float(bits.sum())
    figures = {BITS_RECALLED.name: BITS_RECALLED.figure(total, len(bits), extractor, low, high)}
    if parameters:
        low, high = (bound if bound is None else bound / parameters for bound in (low, high))
        value = total / parameters
        figures[BITS_PER_PARAMETER.name] = BITS_PER_PARAMETER.figure(value, len(bits), extractor, low, high)
    return figures
