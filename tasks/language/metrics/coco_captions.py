"""ROUGE-L and CIDEr, computed by pycocoevalcap, the evaluation code of the COCO captions.

Their tokens need Java. Without it the metrics take mteval-v13a's tokens, punctuation included: other values, and so
other names.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from tasks.language.metrics.java import PACKAGE
from tasks.language.metrics.text_metric import Corpus, Score, TextMetric

if TYPE_CHECKING:
    import numpy as np

PTB, MTEVAL = "PTB tokens without punctuation", "13a, lower case"


def rouge_l(corpus: Corpus) -> Score | None:
    """ROUGE-L (Lin 2004) with beta 1.2, in per cent: longest common subsequence, best recall and best precision."""
    return None if corpus.ptb is None else _rouge_l(corpus.ptb, PTB)


def rouge_l_13a(corpus: Corpus) -> Score | None:
    """The same on mteval-v13a's tokens, where there is no Java."""
    return _rouge_l(corpus.mteval, MTEVAL) if corpus.ptb is None else None


def cider(corpus: Corpus) -> Score | None:
    """CIDEr (Vedantam et al. 2015) on pycocoevalcap's scale of 0 to 10; None for one text, which has no idf."""
    return None if corpus.ptb is None else _cider(corpus.ptb, PTB)


def cider_13a(corpus: Corpus) -> Score | None:
    """The same on mteval-v13a's tokens, where there is no Java."""
    return _cider(corpus.mteval, MTEVAL) if corpus.ptb is None else None


def _rouge_l(tokens: Corpus, kind: str) -> Score:
    import numpy as np
    from pycocoevalcap.rouge.rouge import Rouge

    _, scores = Rouge().compute_score(*by_index(tokens))
    return _mean(100 * np.asarray(scores), f"ROUGE-L, {kind}")


def _cider(tokens: Corpus, kind: str) -> Score | None:
    import numpy as np
    from pycocoevalcap.cider.cider import Cider

    if len(tokens.texts) < 2:
        return None
    _, scores = Cider().compute_score(*by_index(tokens))
    return _mean(np.asarray(scores), f"CIDEr, {kind}")


def by_index(corpus: Corpus) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and texts by number, in pycocoevalcap's argument order."""
    references = {i: list(of_text) for i, of_text in enumerate(corpus.references)}
    return references, {i: [text] for i, text in enumerate(corpus.texts)}


def _mean(scores: np.ndarray, name: str) -> Score:
    extractor = f"{PACKAGE} {version(PACKAGE)} {name}"
    return Score(float(scores.mean()), extractor, lambda chosen: float(scores[chosen].mean()), scores.tolist())


_SUBSEQUENCE = "longest common subsequence with a reference (ROUGE-L"
_RARITY = "n-gram overlap with the references, weighted by rarity (CIDEr"
_JAVA = (PACKAGE, "java")
ROUGE_L = TextMetric("rouge_l", "higher", "%", f"{_SUBSEQUENCE})", _JAVA, version=2, score=rouge_l)
ROUGE_L_13A = TextMetric(
    "rouge_l_13a", "higher", "%", f"{_SUBSEQUENCE} without Java)", (PACKAGE,), version=2, score=rouge_l_13a
)
CIDER = TextMetric("cider", "higher", "", f"{_RARITY})", _JAVA, version=2, score=cider)
CIDER_13A = TextMetric("cider_13a", "higher", "", f"{_RARITY} without Java)", (PACKAGE,), version=2, score=cider_13a)
