"""Scores of a whole corpus, computed from sums of per-item statistics, so that items can be resampled.

The tasks' metrics write the statistics into items.parquet: one number per column, or a list of numbers in one column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports.statistics.items import Score

if TYPE_CHECKING:
    import pandas as pd

NIST_ORDER = 5
NIST_BETA = math.log(0.5) / math.log(1.5) ** 2  # the penalty is 0.5 for a text of two thirds of the references' length


@dataclass(frozen=True)
class CorpusScore:
    """`of` computes scores (m,) from sums (m, k) of the statistics in `columns`."""

    columns: tuple[str, ...]
    width: int  # k
    of: Score

    def statistics(self, items: pd.DataFrame) -> np.ndarray | None:
        """The statistics of each item (n, k); None if the table lacks them or holds something else."""
        if not all(column in items for column in self.columns):
            return None
        try:
            values = np.column_stack([np.array(items[column].tolist(), float) for column in self.columns])
        except (TypeError, ValueError):  # not numbers, or lists of unequal length
            return None
        return values if values.shape == (len(items), self.width) and np.isfinite(values).all() else None


def bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU in per cent from matches (4), n-grams (4), words and reference words, as the metric computes it."""
    from sacrebleu.metrics.bleu import BLEU

    return np.array(
        [
            BLEU.compute_bleu(row[:4], row[4:8], row[8], row[9], smooth_method="exp").score
            for row in sums.astype(int).tolist()
        ]
    )


def nist(sums: np.ndarray) -> np.ndarray:
    """NIST from information of matches (5), n-grams (5), words and reference words (mteval-v13a)."""
    information, ngrams = sums[:, :NIST_ORDER], sums[:, NIST_ORDER : 2 * NIST_ORDER]
    words, reference_words = sums[:, -2], sums[:, -1]
    ratio = np.clip(words / np.maximum(reference_words, 1e-300), 1e-300, 1)
    return np.exp(NIST_BETA * np.log(ratio) ** 2) * (information / np.maximum(ngrams, 1)).sum(1)


def _share_of_slots(column: int) -> Score:
    return lambda sums: sums[:, column] / np.maximum(sums[:, :3].sum(1), 1)


SLOT_COLUMNS = ("right", "wrong", "missing", "added")
SLOT_SHARES = ("slot_accuracy", "slots_wrong", "slots_missing", "slots_added")  # of right + wrong + missing
CORPUS_SCORES: Mapping[str, CorpusScore] = {
    "bleu": CorpusScore(("bleu_statistics",), 10, bleu),
    "nist": CorpusScore(("nist_statistics",), 2 * NIST_ORDER + 2, nist),
    **{name: CorpusScore(SLOT_COLUMNS, 4, _share_of_slots(i)) for i, name in enumerate(SLOT_SHARES)},
}
