"""Corpus NIST (Doddington 2002), computed by nltk."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from tasks.language.metrics.intervals import bootstrap_interval
from tasks.language.metrics.text_metric import References, Score, TextMetric, Texts

if TYPE_CHECKING:
    import numpy as np

ORDER = 5  # n-grams up to this length
RESAMPLES = 40  # the library counts all n-grams again for each


def nist(texts: Texts, references: References) -> Score:
    """Corpus NIST of tokenized texts, n-grams up to 5, information weights from the references.

    A resample has fewer distinct n-grams and so less information: the interval is shifted to the value.
    """
    import numpy as np
    from nltk.translate.nist_score import corpus_nist

    hypotheses = [text.split() for text in texts]
    targets = [[reference.split() for reference in of_text] for of_text in references]

    def statistic(indices: np.ndarray) -> float:
        sampled, wanted = [hypotheses[i] for i in indices], [targets[i] for i in indices]
        if max(map(len, sampled)) < ORDER:
            return 0.0  # no text has a 5-gram: the library would divide by zero
        return float(corpus_nist(wanted, sampled, ORDER))

    value = statistic(np.arange(len(texts)))
    low, high = bootstrap_interval(statistic, len(texts), RESAMPLES, centre=value)
    return Score(value, f"nltk {version('nltk')} corpus_nist, 13a, lower case", low, high)


NIST = TextMetric(
    "nist", "higher", "", "n-gram overlap with the references, weighted by information (NIST)", ("nltk",), score=nist
)
