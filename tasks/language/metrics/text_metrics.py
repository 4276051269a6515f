"""Texts against all their references, by kept libraries: BLEU, NIST, METEOR, ROUGE-L and CIDEr.

All see the same words: lower case, cut by sacrebleu's tokenizer "13a" (mteval-v13a, as the E2E data's own scripts).
Corpus metrics' intervals come from resampled items (Koehn 2004). Figures are in the units of Hu et al. 2021, Table 3.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tasks.base import Figure
from tasks.language.metrics.intervals import interval

NIST_RESAMPLES = 40  # the library counts all n-grams anew each time
NIST_ORDER = 5

Texts = Sequence[str]
References = Sequence[Sequence[str]]  # all references of each text


def all_figures(texts: Texts, references: References) -> tuple[dict[str, Figure], dict[str, list[float]]]:
    """Every metric that this machine can compute, and the per-item scores of those that have them."""
    texts = [tokenized(text) for text in texts]
    references = [[tokenized(reference) for reference in of_one] for of_one in references]
    found = {"bleu": bleu(texts, references), "nist": nist(texts, references)}
    items: dict[str, list[float]] = {}
    for name, metric in (("rouge_l", rouge_l), ("cider", cider), ("meteor", meteor)):
        measured = metric(texts, references)
        if measured is not None:
            found[name], items[name] = measured
    return found, items


def tokenized(text: str) -> str:
    """Lower-case words between single spaces."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()(text.lower())


def bleu(texts: Texts, references: References) -> Figure:
    """Corpus BLEU (Papineni et al. 2002) in per cent, of tokenized texts."""
    from sacrebleu.metrics.bleu import BLEU

    # "force" and "effective_order" silence warnings; a sentence's counts do not depend on either
    metric = BLEU(tokenize="none", force=True, effective_order=True)
    each = [metric.sentence_score(text, list(of_one)) for text, of_one in zip(texts, references, strict=True)]
    counts = np.array([[*score.counts, *score.totals, score.sys_len, score.ref_len] for score in each])

    def statistic(chosen: np.ndarray) -> float:
        sums = counts[chosen].sum(axis=0).tolist()
        return BLEU.compute_bleu(sums[:4], sums[4:8], sums[8], sums[9], smooth_method="exp").score

    low, high = interval(statistic, len(texts))
    extractor = f"sacrebleu {version('sacrebleu')}, 13a, lower case, exp smoothing"
    return Figure(statistic(np.arange(len(texts))), "%", len(texts), extractor, low, high)


def nist(texts: Texts, references: References) -> Figure:
    """Corpus NIST (Doddington 2002), n-grams up to 5; information weights from the references.

    A resample has fewer distinct n-grams and so less information: its interval is moved to the value.
    """
    from nltk.translate.nist_score import corpus_nist

    words = [text.split() for text in texts]
    targets = [[reference.split() for reference in of_one] for of_one in references]

    def statistic(chosen: np.ndarray) -> float:
        said, wanted = [words[i] for i in chosen], [targets[i] for i in chosen]
        if max(map(len, said)) < NIST_ORDER:
            return 0.0  # no 5-gram in all the texts: the library would divide by zero
        return float(corpus_nist(wanted, said, NIST_ORDER))

    value = statistic(np.arange(len(texts)))
    low, high = interval(statistic, len(texts), NIST_RESAMPLES, centre=value)
    return Figure(value, "", len(texts), f"nltk {version('nltk')} corpus_nist, 13a, lower case", low, high)


def rouge_l(texts: Texts, references: References) -> tuple[Figure, list[float]]:
    """ROUGE-L (Lin 2004) with beta 1.2 in per cent: longest common subsequence, best recall and precision."""
    from pycocoevalcap.rouge.rouge import Rouge

    _, scores = Rouge().compute_score(*_by_item(texts, references))
    return _mean(100 * np.asarray(scores), "%", "ROUGE-L"), [100 * float(score) for score in scores]


def cider(texts: Texts, references: References) -> tuple[Figure, list[float]] | None:
    """CIDEr (Vedantam et al. 2015) as pycocoevalcap scales it (0 to 10); None for one item, which has no idf."""
    if len(texts) < 2:
        return None
    from pycocoevalcap.cider.cider import Cider

    _, scores = Cider().compute_score(*_by_item(texts, references))
    return _mean(np.asarray(scores), "", "CIDEr"), [float(score) for score in scores]


def meteor(texts: Texts, references: References) -> tuple[Figure, list[float]] | None:
    """METEOR 1.5 (Denkowski and Lavie 2014) in per cent; None without Java or the package's jar.

    The value is aggregated over the corpus by the jar; the interval is that of the items' mean, moved to it.
    """
    with _meteor_scorer() as scorer:
        if scorer is None:
            return None
        try:
            value, scores = scorer.compute_score(*_by_item(texts, references))
        except (OSError, ValueError):  # Java is there but cannot run the jar: it answers nothing
            return None
    scores = 100 * np.asarray(scores)
    figure = _mean(scores, "%", "METEOR 1.5")
    figure.value = 100 * value
    figure.low, figure.high = interval(lambda chosen: scores[chosen].mean(), len(scores), centre=figure.value)
    return figure, scores.tolist()


@contextlib.contextmanager
def _meteor_scorer() -> Iterator:
    import pycocoevalcap.meteor.meteor as module

    if shutil.which("java") is None or not (Path(module.__file__).parent / module.METEOR_JAR).is_file():
        yield None
        return
    scorer = module.Meteor()
    try:
        yield scorer
    finally:
        if scorer.lock.locked():
            scorer.lock.release()  # its destructor would wait for it for ever
        for stream in filter(None, (scorer.meteor_p.stdout, scorer.meteor_p.stderr)):
            stream.close()


def _by_item(texts: Texts, references: References) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """(references, texts) by number, as pycocoevalcap takes them."""
    return {i: list(of_one) for i, of_one in enumerate(references)}, {i: [text] for i, text in enumerate(texts)}


def _mean(scores: np.ndarray, unit: str, metric: str) -> Figure:
    low, high = interval(lambda chosen: float(scores[chosen].mean()), len(scores))
    extractor = f"pycocoevalcap {version('pycocoevalcap')} {metric}, 13a, lower case"
    return Figure(float(scores.mean()), unit, len(scores), extractor, low, high)
