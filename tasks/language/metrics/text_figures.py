"""Figures of generated texts with intervals and ceilings, and what a paired comparison needs of each text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tasks.base import Figure, Metric
from tasks.bootstrap import bootstrap_interval
from tasks.cache import cached
from tasks.language.metrics.text_metric import Corpus, TextMetric

MOST_TURNS = 4  # references of a meaning that take the place of the text, in the ceiling


def text_figures(metrics: Iterable[Metric], corpus: Corpus) -> tuple[dict[str, Figure], dict[str, list[Any]]]:
    """Figures of every `TextMetric` among `metrics` that can be computed here, and columns of the item table.

    Intervals of corpus metrics resample the items (Koehn 2004).
    """
    text_metrics = [metric for metric in metrics if isinstance(metric, TextMetric)]
    ceilings = _ceilings(text_metrics, corpus.references)
    figures, columns = {}, {}
    for metric in text_metrics:
        score = metric.score(corpus)
        if score is None:
            continue
        count, resampled = len(corpus.texts), score.resampled
        low, high = (None, None) if resampled is None else bootstrap_interval(resampled, count)
        ceiling = {"ceiling": ceilings[metric.name]} if metric.name in ceilings else {}
        figures[metric.name] = metric.figure(score.value, count, score.extractor, low, high, **ceiling)
        columns |= score.columns(metric.name)
    return figures, columns


def leave_one_out(references: Sequence[Sequence[str]]) -> Corpus:
    """Kept references as texts, against the others of their meaning; a meaning with one reference is left out.

    Each of the first four references takes a turn.
    """
    turns = [
        (of_text[turn % len(of_text)], [reference for i, reference in enumerate(of_text) if i != turn % len(of_text)])
        for turn in range(MOST_TURNS)
        for of_text in references
        if len(of_text) > 1
    ]
    return Corpus([text for text, _ in turns], [others for _, others in turns])


def _ceilings(metrics: Sequence[TextMetric], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """What the references themselves reach, by metric: one against one fewer than the texts have. Cached."""

    def compute() -> tuple[dict, dict[str, float]]:
        corpus = leave_one_out(references)
        scores = {metric.name: metric.score(corpus) for metric in metrics} if corpus.texts else {}
        return {}, {name: score.value for name, score in scores.items() if score is not None}

    key = {"metrics": [metric.implementation() for metric in metrics], "references": references, "turns": MOST_TURNS}
    return cached("text-ceilings", key, compute)[1]
