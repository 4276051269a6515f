"""Gains over the untuned base. A perplexity is exponential in the loss, so its gain is that of its logarithm."""

from __future__ import annotations

import math

import numpy as np


def is_perplexity(metric: str) -> bool:
    """By its name, since records do not hold a metric's scale."""
    return metric.endswith("perplexity")


def gain(metric: str, value: float, base: float) -> float:
    """Gain of `value` over the untuned base's; for a perplexity, of its logarithm. Negative if the value is lower."""
    return math.log(value / base) if is_perplexity(metric) else value - base


def moved_by_gain(metric: str, values: np.ndarray, base: float, share: float) -> np.ndarray:
    """The values, each moved by a share of its gain over the base: by -1 onto the base, by 1 to twice the gain."""
    return values * (values / base) ** share if is_perplexity(metric) else values + share * (values - base)
