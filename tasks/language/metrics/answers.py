"""Answers of generated texts against those of the completions: exact match, whole or of what a pattern finds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.base import Figure, Metric
from tasks.errors import TaskError

if TYPE_CHECKING:
    import numpy as np

EXACT_MATCH = Metric("exact_match", "higher", "share", "generated texts that equal the completion, white space aside")
ANSWER_ACCURACY = Metric(
    "answer_accuracy", "higher", "share", "texts whose answer, as --task.answer-pattern finds it, is the completion's"
)
COMPLETION_PERPLEXITY = Metric(
    "completion_perplexity", "lower", "per token", "perplexity of the completions, given their prompt"
)
NUMBER = re.compile(r"[$€£]?([-+]?\d[\d,]*(?:\.\d+)?)\.?%?")


def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of an answer. Raises TaskError if it is not one."""
    try:
        return re.compile(pattern)
    except re.error as wrong:
        raise TaskError(
            f"--task.answer-pattern '{pattern}' is not a regular expression ({wrong}): expected one such as "
            r"'The answer is (\S+)\.', whose first group is the answer"
        ) from None


def answer_of(pattern: re.Pattern[str], text: str) -> str | None:
    """The last match in a text: its first group that took part, or all of it; None without a match.

    White space at the ends and between words does not count, nor do a number's thousands separators.
    """
    matches = list(pattern.finditer(text))
    if not matches:
        return None
    groups = [group for group in matches[-1].groups() if group is not None]
    answer = " ".join((groups[0] if groups else matches[-1][0]).split())
    number = NUMBER.fullmatch(answer)
    return answer if number is None else number[1].replace(",", "")


def matches(texts: Sequence[str], completions: Sequence[str]) -> list[bool]:
    """Whether each text equals its completion, white space aside."""
    return [text.split() == completion.split() for text, completion in zip(texts, completions, strict=True)]


def share_right(metric: Metric, right: Sequence[bool] | np.ndarray, extractor: str) -> Figure:
    """The share of `right`, with Wilson's 95 % interval (Wilson 1927), which holds at shares of 0 and 1 too."""
    from scipy.stats import binomtest

    count = sum(map(int, right))
    interval = binomtest(count, len(right)).proportion_ci(method="wilson")
    return metric.figure(count / len(right), len(right), extractor, float(interval.low), float(interval.high))
