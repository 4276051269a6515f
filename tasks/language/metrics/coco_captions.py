"""METEOR, ROUGE-L and CIDEr, computed by pycocoevalcap, the evaluation code of the COCO captions."""

from __future__ import annotations

import contextlib
import inspect
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.language.metrics.intervals import bootstrap_interval
from tasks.language.metrics.text_metric import References, Score, TextMetric, Texts

if TYPE_CHECKING:
    import numpy as np

PACKAGE = "pycocoevalcap"


def meteor(texts: Texts, references: References) -> Score | None:
    """METEOR 1.5 (Denkowski and Lavie 2014), in per cent; None without Java or the package's jar.

    The jar aggregates the value over the corpus; the interval is that of the texts' mean, shifted to the value.
    """
    import numpy as np

    with _meteor_scorer() as scorer:
        if scorer is None:
            return None
        try:
            value, per_item = scorer.compute_score(*_by_index(texts, references))
        except (OSError, ValueError):  # Java is installed but cannot run the jar, which then answers nothing
            return None
    scores = 100 * np.asarray(per_item)
    low, high = bootstrap_interval(lambda indices: scores[indices].mean(), len(scores), centre=100 * value)
    return Score(100 * value, _extractor("METEOR 1.5"), low, high, scores.tolist())


@contextlib.contextmanager
def _meteor_scorer() -> Iterator:
    """pycocoevalcap's scorer, a Java process; None if it cannot run."""
    from pycocoevalcap.meteor.meteor import METEOR_JAR, Meteor

    if shutil.which("java") is None or not (Path(inspect.getfile(Meteor)).parent / METEOR_JAR).is_file():
        yield None
        return
    scorer = Meteor()
    try:
        yield scorer
    finally:
        if scorer.lock.locked():
            scorer.lock.release()  # its destructor would wait for it forever
        for stream in filter(None, (scorer.meteor_p.stdout, scorer.meteor_p.stderr)):
            stream.close()


def rouge_l(texts: Texts, references: References) -> Score:
    """ROUGE-L (Lin 2004) with beta 1.2, in per cent: longest common subsequence, best recall and best precision."""
    import numpy as np
    from pycocoevalcap.rouge.rouge import Rouge

    _, scores = Rouge().compute_score(*_by_index(texts, references))
    return _mean(100 * np.asarray(scores), "ROUGE-L")


def cider(texts: Texts, references: References) -> Score | None:
    """CIDEr (Vedantam et al. 2015) on pycocoevalcap's scale of 0 to 10; None for one text, which has no idf."""
    if len(texts) < 2:
        return None
    import numpy as np
    from pycocoevalcap.cider.cider import Cider

    _, scores = Cider().compute_score(*_by_index(texts, references))
    return _mean(np.asarray(scores), "CIDEr")


def _by_index(texts: Texts, references: References) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and texts by number, in pycocoevalcap's argument order."""
    return {i: list(of_text) for i, of_text in enumerate(references)}, {i: [text] for i, text in enumerate(texts)}


def _mean(scores: np.ndarray, name: str) -> Score:
    low, high = bootstrap_interval(lambda indices: float(scores[indices].mean()), len(scores))
    return Score(float(scores.mean()), _extractor(name), low, high, [float(score) for score in scores])


def _extractor(name: str) -> str:
    return f"{PACKAGE} {version(PACKAGE)} {name}, 13a, lower case"


METEOR = TextMetric(
    "meteor",
    "higher",
    "%",
    "words, stems and synonyms shared with a reference (METEOR)",
    (PACKAGE, "java"),
    score=meteor,
)
ROUGE_L = TextMetric(
    "rouge_l", "higher", "%", "longest common subsequence with a reference (ROUGE-L)", (PACKAGE,), score=rouge_l
)
CIDER = TextMetric(
    "cider", "higher", "", "n-gram overlap with the references, weighted by rarity (CIDEr)", (PACKAGE,), score=cider
)
