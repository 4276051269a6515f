"""A module script of the evaluate library, which finds it by the folder's name."""

import datasets
import evaluate

from tasks.language.metrics.e2e_scores import E2E_METRICS
from tasks.language.metrics.text_metric import Corpus

DESCRIPTION = """\
BLEU, NIST, METEOR, ROUGE-L and CIDEr as the scorer of the E2E challenge computes them (Dusek et al. 2020). BLEU, METEOR
and ROUGE-L are in per cent. METEOR, ROUGE-L and CIDEr need Java; without it there are rouge_l_13a and cider_13a, on
mteval-v13a's tokens.
"""
INPUTS = """\
Args:
    predictions: generated texts.
    references: for each text a list of references; their number may differ.
Returns:
    the scores of the corpus by name.
"""


class E2EScores(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": datasets.Sequence(text)})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation="", inputs_description=INPUTS, features=features, format=None
        )

    def _compute(self, predictions, references):
        corpus = Corpus(predictions, references)
        scores = {metric.name: metric.score(corpus) for metric in E2E_METRICS}
        return {name: score.value for name, score in scores.items() if score is not None}
