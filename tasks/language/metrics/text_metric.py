"""Metrics that compare generated texts with all their references, computed by maintained libraries.

Tokens are those of the E2E challenge's scorer: BLEU and NIST take mteval-v13a's, METEOR, ROUGE-L and CIDEr the Penn
Treebank's without punctuation; all in lower case. Units are those of Hu et al. 2021, Table 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tasks.base import Metric
from tasks.language.metrics.ptb_tokenizer import ptb_tokens

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Corpus:
    """Texts, and all references of each."""

    texts: Sequence[str]
    references: Sequence[Sequence[str]]

    @cached_property
    def mteval(self) -> Corpus:
        """The tokens of mteval-v13a in lower case, separated by single spaces."""
        return self._tokenized(_mteval_tokens)

    @cached_property
    def ptb(self) -> Corpus | None:
        """Penn Treebank tokens in lower case without punctuation, separated by single spaces; None without Java."""
        tokens = ptb_tokens({*self.texts, *(text for of_text in self.references for text in of_text)})
        return None if tokens is None else self._tokenized(tokens.__getitem__)

    def _tokenized(self, tokens: Callable[[str], str]) -> Corpus:
        return Corpus(
            [tokens(text) for text in self.texts], [list(map(tokens, of_text)) for of_text in self.references]
        )


def _mteval_tokens(text: str) -> str:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()(text.lower())


@dataclass(frozen=True)
class Score:
    """A metric's value and the software that computed it; the rest if the metric has it.

    `resampled` is the value of a resample of the texts (their indices), `per_item` the score of each text, and
    `statistics` the numbers of each text whose sums determine the value of a corpus metric.
    """

    value: float
    extractor: str
    resampled: Callable[[np.ndarray], float] | None = None
    per_item: list[float] | None = None
    statistics: list[list[float]] | None = None

    def columns(self, name: str) -> dict[str, list[Any]]:
        """Columns of the item table: `name` with scores, `name`_statistics with lists of numbers."""
        columns = {name: self.per_item, f"{name}_statistics": self.statistics}
        return {column: values for column, values in columns.items() if values is not None}


@dataclass(frozen=True)
class TextMetric(Metric):
    """A metric of texts with references; `score` returns None if the data or the machine does not allow it."""

    score: Callable[[Corpus], Score | None] = field(kw_only=True)
