"""Time calls on a device, and compare variants although the load of the machine varies.

Every round measures all variants one after another, in rotating order, and ratios are taken within the round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

LEVEL = 0.95
# Merging rewrites every weight, so the first calls after it miss the caches, unlike those of a server
WARMUP_CALLS = 10  # untimed calls per variant and round
TIMED_CALLS = 10


def time_call(call: Callable[[], object], device_type: str) -> float:
    """Wall-clock seconds of one call, including the work that it queues on the device."""
    synchronise(device_type)
    start = time.perf_counter()
    call()
    synchronise(device_type)
    return time.perf_counter() - start


def synchronise(device_type: str) -> None:
    if device_type == "cuda":
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Variant:
    """One way to do the same work: `call` is timed inside `context`; entering and leaving the context is not timed."""

    call: Callable[[], object]
    context: Callable[[], AbstractContextManager] = nullcontext


@dataclass(frozen=True)
class Ratio:
    """Median over `n` rounds of one variant's seconds divided by another's, with a 95 % interval of the median."""

    median: float
    low: float
    high: float
    n: int


def time_interleaved(variants: Mapping[str, Variant], rounds: int, device_type: str) -> dict[str, list[float]]:
    """Seconds per call, by variant and round; each is the median of `TIMED_CALLS` calls."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            variant = variants[name]
            with variant.context(), torch.no_grad():
                for _ in range(WARMUP_CALLS):
                    variant.call()
                seconds[name].append(
                    statistics.median(time_call(variant.call, device_type) for _ in range(TIMED_CALLS))
                )
    return seconds


def paired_ratio(seconds: Sequence[float], reference: Sequence[float]) -> Ratio:
    """The ratio over paired rounds. Its interval is the sign test's, which assumes only that rounds are i.i.d."""
    ratios = sorted(a / b for a, b in zip(seconds, reference, strict=True))
    low, high = median_interval(len(ratios))
    return Ratio(statistics.median(ratios), ratios[low], ratios[high], len(ratios))


def median_interval(n: int) -> tuple[int, int]:
    """Indices, in sorted order, of the values that bound the median at `LEVEL`; the extremes if n < 6."""
    from scipy.stats import binom

    below = int(binom.ppf((1 - LEVEL) / 2, n, 0.5))  # P(X < below) <= 2.5 %
    index = max(0, below - 1)
    return index, n - 1 - index
