"""The jackknife's interval of a distance, which a metric computes from the same parts."""

from collections.abc import Callable

from torch import Tensor

from tasks.diffusion.evaluation.intervals import jackknife_interval, without_groups


def jackknife(distance: Callable[[Tensor, Tensor], float], first: Tensor, second: Tensor) -> tuple[float, float]:
    """The 95 % interval of a distance between two sets of features (n, d) and (m, d)."""
    return jackknife_interval(distance(first, second), without_groups(distance, first, second))
