"""Corpus NIST (Doddington 2002) as mteval-v13a computes it, which the E2E challenge's scorer runs.

Like BLEU, mteval counts an n-gram as often as the reference that has it most often; nltk takes one best reference.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from tasks.language.metrics.text_metric import Corpus, Score, TextMetric

if TYPE_CHECKING:
    import numpy as np

ORDER = 5  # n-grams up to this length
BETA = math.log(0.5) / math.log(1.5) ** 2  # the penalty is 0.5 for a text of two thirds of the references' length


def nist(corpus: Corpus) -> Score:
    """Corpus NIST, n-grams up to 5, information weights from all references.

    Statistics of a text: information of its matching 1- to 5-grams (5), n-grams (5), words, words of its references.
    The last is divided by the largest number of references in the corpus, as mteval fills up with empty ones.
    """
    import numpy as np

    statistics = np.array(_statistics(corpus.mteval))

    def statistic(indices: np.ndarray) -> float:
        return _nist(*statistics[indices].sum(axis=0).tolist())

    extractor = f"mteval-v13a's NIST, n-grams by sacrebleu {version('sacrebleu')}, 13a, lower case"
    return Score(statistic(np.arange(len(statistics))), extractor, statistic, statistics=statistics.tolist())


def _nist(*sums: float) -> float:
    """NIST from the summed statistics."""
    information, ngrams, (words, reference_words) = sums[:ORDER], sums[ORDER : 2 * ORDER], sums[2 * ORDER :]
    ratio = min(1.0, words / reference_words) if reference_words else 1.0
    penalty = math.exp(BETA * math.log(ratio) ** 2) if ratio else 0.0
    return penalty * sum(bits / max(count, 1) for bits, count in zip(information, ngrams, strict=True))


def _statistics(tokens: Corpus) -> list[list[float]]:
    counted = [[_ngrams(reference) for reference in of_text] for of_text in tokens.references]
    information = _information(counted)
    most = max(map(len, counted))
    rows = []
    for text, of_text in zip(map(_ngrams, tokens.texts), counted, strict=True):
        bits, total = [0.0] * ORDER, [0] * ORDER
        allowed = Counter()
        for reference in of_text:
            allowed |= reference
        for ngram, count in text.items():
            total[len(ngram) - 1] += count
            bits[len(ngram) - 1] += min(count, allowed[ngram]) * information.get(ngram, 0.0)
        rows.append([*bits, *total, total[0], sum(map(_words, of_text)) / most])
    return rows


def _ngrams(text: str) -> Counter[tuple[str, ...]]:
    from sacrebleu.metrics.helpers import extract_all_word_ngrams

    return extract_all_word_ngrams(text, 1, ORDER)[0]


def _words(ngrams: Counter[tuple[str, ...]]) -> int:
    return sum(count for ngram, count in ngrams.items() if len(ngram) == 1)


def _information(counted: Sequence[Sequence[Counter[tuple[str, ...]]]]) -> dict[tuple[str, ...], float]:
    """log2 of how often an n-gram's first n - 1 words occur over how often all n do (Doddington 2002, eq. 2)."""
    frequency: Counter[tuple[str, ...]] = Counter()
    for of_text in counted:
        for reference in of_text:
            frequency.update(reference)
    frequency[()] = _words(frequency)
    return {ngram: math.log2(frequency[ngram[:-1]] / count) for ngram, count in frequency.items() if ngram}


NIST = TextMetric(
    "nist",
    "higher",
    "",
    "n-gram overlap with the references, weighted by information (NIST)",
    ("sacrebleu",),
    version=2,
    score=nist,
)
