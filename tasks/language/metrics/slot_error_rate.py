"""Slot errors: which slots of a meaning a text mentions correctly, mentions wrongly, omits or adds.

Values are found by the patterns of `slot_patterns`.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.base import Figure, Metric
from tasks.bootstrap import bootstrap_interval
from tasks.language.metrics.slot_patterns import NAMED, SLOTS, mentioned_values

if TYPE_CHECKING:
    import numpy as np

SLOT_ACCURACY = Metric("slot_accuracy", "higher", "share", "slots of the meaning that the text mentions correctly")
SLOTS_WRONG = Metric("slots_wrong", "lower", "per slot", "slots that the text mentions with another value")
SLOTS_MISSING = Metric("slots_missing", "lower", "per slot", "slots of the meaning that the text omits")
SLOTS_ADDED = Metric("slots_added", "lower", "per slot", "slots that the text mentions but the meaning lacks")
SLOT_METRICS = (SLOT_ACCURACY, SLOTS_WRONG, SLOTS_MISSING, SLOTS_ADDED)  # in the order of the columns of `_as_array`
EXTRACTOR = "slot patterns of tasks/language"


@dataclass(frozen=True)
class SlotErrors:
    """Comparison of one text with its meaning; `right + wrong + missing` is the number of slots in the meaning."""

    right: int
    wrong: int
    missing: int
    added: int


def slot_errors(meaning: Mapping[str, str], text: str, names: Mapping[str, list[str]]) -> SlotErrors:
    """Compare a text with its meaning; a slot mentioned both correctly and wrongly counts as wrong.

    If a name occurs in both name slots of the data, any mention of it counts for either.
    """
    mentioned = mentioned_values(text, names)
    mentioned_names = set().union(*(mentioned.get(slot, set()) for slot in NAMED))
    meaning_names = {meaning[slot] for slot in NAMED if slot in meaning}
    right = wrong = missing = 0
    for slot in (slot for slot in SLOTS if slot in meaning):
        value = meaning[slot]
        values = mentioned.get(slot, set())
        if slot in NAMED:
            values = (values - meaning_names) | ({value} & mentioned_names)
        right += values == {value}
        wrong += bool(values - {value})
        missing += not values
    added = sum(bool(values - meaning_names) for slot, values in mentioned.items() if slot not in meaning)
    return SlotErrors(right, wrong, missing, added)


def slot_figures(
    metrics: Container[str], texts: Sequence[SlotErrors], references: Sequence[SlotErrors]
) -> dict[str, Figure]:
    """Slot errors as shares of the meanings' slots, of the metrics named in `metrics`; none if there are no slots.

    `ceiling` is what one reference of each meaning reaches.
    """
    import numpy as np

    counts, reference_counts = _as_array(texts), _as_array(references)
    slots = counts[:, :3].sum(axis=1)  # right, wrong and missing
    figures: dict[str, Figure] = {}
    if not slots.any():
        return figures
    for column, metric in enumerate(SLOT_METRICS):
        if metric.name not in metrics:
            continue

        def share(indices: np.ndarray, values: np.ndarray = counts[:, column]) -> float:
            total = slots[indices].sum()
            return values[indices].sum() / total if total else math.nan  # a resample of meanings without slots

        everything = np.arange(len(counts))
        low, high = bootstrap_interval(share, len(counts))
        ceiling = share(everything, reference_counts[:, column])
        figures[metric.name] = metric.figure(
            share(everything), len(counts), EXTRACTOR, low, high, ceiling=float(ceiling)
        )
    return figures


def _as_array(errors: Sequence[SlotErrors]) -> np.ndarray:
    """(n, 4): right, wrong, missing and added slots of each text."""
    import numpy as np

    return np.array([(each.right, each.wrong, each.missing, each.added) for each in errors])
