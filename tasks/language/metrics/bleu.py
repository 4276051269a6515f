"""Corpus BLEU (Papineni et al. 2002), computed by sacrebleu."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from tasks.language.metrics.text_metric import Corpus, Score, TextMetric

if TYPE_CHECKING:
    import numpy as np


def bleu(corpus: Corpus) -> Score:
    """Corpus BLEU, in per cent.

    Statistics of a text: matches of 1- to 4-grams (4), n-grams (4), words, words of the reference closest in length.
    """
    import numpy as np
    from sacrebleu.metrics.bleu import BLEU

    # "force" and "effective_order" silence warnings; a sentence's counts do not depend on either
    scorer = BLEU(tokenize="none", force=True, effective_order=True)
    pairs = zip(corpus.mteval.texts, corpus.mteval.references, strict=True)
    each = [scorer.sentence_score(text, list(of_text)) for text, of_text in pairs]
    counts = np.array([[*score.counts, *score.totals, score.sys_len, score.ref_len] for score in each])

    def statistic(indices: np.ndarray) -> float:
        sums = counts[indices].sum(axis=0).tolist()
        return BLEU.compute_bleu(sums[:4], sums[4:8], sums[8], sums[9], smooth_method="exp").score

    extractor = f"sacrebleu {version('sacrebleu')}, 13a, lower case, exp smoothing"
    return Score(statistic(np.arange(len(each))), extractor, statistic, statistics=counts.tolist())


BLEU = TextMetric(
    "bleu", "higher", "%", "n-gram overlap with the references (BLEU)", ("sacrebleu",), version=2, score=bleu
)
