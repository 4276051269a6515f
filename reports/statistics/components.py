"""How much of a metric's variance comes from the training seed, the evaluation seed and the items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reports.statistics.seeds import MeanSquares


@dataclass(frozen=True)
class Components:
    """Variances of a single evaluation of a single trained model, by source; None if the records cannot tell.

    `training`: between training seeds. `evaluation`: between evaluation seeds of one trained model. `items`: had other
    items been drawn, beyond what the evaluation seed changes about the same items.
    """

    training: float | None
    evaluation: float | None
    items: float | None


def components(values: ArrayLike, error: float | None) -> Components:
    """The components of values (n, r), n training and r evaluation seeds, by a two-way random-effects analysis.

    The estimates equate mean squares with their expected values (the ANOVA method; Searle, Casella and McCulloch 1992,
    section 4.7), and negative ones are 0. `error` is a run's standard error over items, of its average over the r
    evaluations; the part of `evaluation` that is left in this average is subtracted.
    """
    values = np.asarray(values, float)
    squares = MeanSquares.of(values)
    n, r = squares.n, squares.r
    training = max(0.0, squares.training - squares.interaction) / r if n > 1 else None
    evaluation = float(values.var(axis=1, ddof=1).mean()) if r > 1 else None
    items = None
    if error is not None:
        items = max(0.0, error**2 - (evaluation or 0.0) / r)
    return Components(training, evaluation, items)
