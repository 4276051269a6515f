"""The share of the teacher's effect that the student recovers, on held-out inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.base import Figure, Metric
from tasks.bootstrap import bootstrap_interval

if TYPE_CHECKING:
    import numpy as np

TEACHER = "the teacher"
RECOVERED = Metric(
    "recovered",
    "higher",
    "of the teacher's effect",
    "1 - (distance of the student to the teacher) / (distance of the untuned base to the teacher), on held-out inputs",
    perfect=(TEACHER, 1.0),
)
DISTANCE = "teacher_distance"  # the name of a task's metric of the distance itself


def distances(unit: str, meaning: str, validation_items: str) -> tuple[Metric, Metric]:
    """The metric of the distance to the teacher on the test items, and on the validation items the loss."""
    perfect = (TEACHER, 0.0)
    return (
        Metric(DISTANCE, "lower", unit, meaning, perfect=perfect),
        Metric("validation_loss", "lower", unit, f"{DISTANCE} on {validation_items}", perfect=perfect),
    )


def recovered(distances: np.ndarray, effects: np.ndarray, extractor: str) -> Figure:
    """The share over all items, from distances (n,) of the student and `effects` (n,) of the untuned base.

    Below 0 if the student is farther from the teacher than the base. The interval resamples items.
    """

    def statistic(items: np.ndarray | slice) -> float:
        return 1 - float(distances[items].sum() / effects[items].sum())

    low, high = bootstrap_interval(statistic, len(distances))
    return RECOVERED.figure(statistic(slice(None)), len(distances), extractor, low, high)
