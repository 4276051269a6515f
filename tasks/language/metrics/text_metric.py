"""Metrics that compare generated texts with all their references, computed by maintained libraries.

Every metric sees the same words: lower case, tokenized by sacrebleu's "13a" (mteval-v13a, as in the E2E data's own
scripts). Intervals of corpus metrics resample the items (Koehn 2004). Units are those of Hu et al. 2021, Table 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tasks.base import Figure, Metric

Texts = Sequence[str]
References = Sequence[Sequence[str]]  # all references of each text


@dataclass(frozen=True)
class Score:
    """A metric's value, its interval, the software that computed it, and the score of each text, if it has one."""

    value: float
    extractor: str
    low: float | None
    high: float | None
    per_item: list[float] | None = None


@dataclass(frozen=True)
class TextMetric(Metric):
    """A metric of tokenized texts; `score` returns None if the data or the machine does not allow it."""

    score: Callable[[Texts, References], Score | None] = field(kw_only=True)


def text_figures(
    metrics: Iterable[Metric], texts: Texts, references: References
) -> tuple[dict[str, Figure], dict[str, list[float]]]:
    """Figures of every `TextMetric` among `metrics` that can be computed here, and their per-item scores."""
    texts = [tokenized(text) for text in texts]
    references = [[tokenized(reference) for reference in alternatives] for alternatives in references]
    figures, columns = {}, {}
    for metric in metrics:
        score = metric.score(texts, references) if isinstance(metric, TextMetric) else None
        if score is not None:
            figures[metric.name] = metric.figure(score.value, len(texts), score.extractor, score.low, score.high)
            if score.per_item is not None:
                columns[metric.name] = score.per_item
    return figures, columns


def tokenized(text: str) -> str:
    """Lower-case tokens separated by single spaces."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()(text.lower())
