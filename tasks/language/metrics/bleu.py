"""Corpus BLEU (Papineni et al. 2002), computed by sacrebleu."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from tasks.language.metrics.intervals import bootstrap_interval
from tasks.language.metrics.text_metric import References, Score, TextMetric, Texts

if TYPE_CHECKING:
    import numpy as np


def bleu(texts: Texts, references: References) -> Score:
    """Corpus BLEU of tokenized texts, in per cent."""
    import numpy as np
    from sacrebleu.metrics.bleu import BLEU

    # "force" and "effective_order" silence warnings; a sentence's counts do not depend on either
    scorer = BLEU(tokenize="none", force=True, effective_order=True)
    each = [scorer.sentence_score(text, list(of_text)) for text, of_text in zip(texts, references, strict=True)]
    counts = np.array([[*score.counts, *score.totals, score.sys_len, score.ref_len] for score in each])

    def statistic(indices: np.ndarray) -> float:
        sums = counts[indices].sum(axis=0).tolist()
        return BLEU.compute_bleu(sums[:4], sums[4:8], sums[8], sums[9], smooth_method="exp").score

    low, high = bootstrap_interval(statistic, len(texts))
    extractor = f"sacrebleu {version('sacrebleu')}, 13a, lower case, exp smoothing"
    return Score(statistic(np.arange(len(texts))), extractor, low, high)


BLEU = TextMetric("bleu", "higher", "%", "n-gram overlap with the references (BLEU)", ("sacrebleu",), score=bleu)
