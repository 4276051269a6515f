"""Paired comparisons of two trained models over items: pairing, clusters, corpus scores, false alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports.statistics.corpus_scores import CORPUS_SCORES
from reports.statistics.items import paired_on_items, paired_on_scores
from tasks.language.metrics.bleu import bleu
from tasks.language.metrics.nist import nist
from tasks.language.metrics.text_metric import Corpus


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr("reports.statistics.items.RESAMPLES", 999)


def test_pairing_detects_what_two_means_cannot():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 300)
    paired = paired_on_items(list(hard + 0.5 + rng.normal(0, 1, 300)), list(hard))
    assert paired is not None
    assert paired.p < 0.01
    assert paired.low < 0.5 < paired.high


def test_the_bootstrap_is_scipys():
    values = np.random.default_rng(1).lognormal(size=80)
    paired = paired_on_items(values, np.zeros(80))
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=9999).confidence_interval
    assert paired is not None
    assert (paired.low, paired.high) == pytest.approx((expected.low, expected.high), rel=0.02)


def test_pairing_is_antisymmetric_and_ignores_values_that_are_not_finite():
    first, second = [1.0, 2.0, 5.0, np.nan], [0.0, 2.0, 1.0, 3.0]
    one, other = paired_on_items(first, second), paired_on_items(second, first)
    assert one is not None
    assert other is not None
    assert one.value == pytest.approx(5 / 3)
    assert one.value == -other.value
    assert paired_on_items([1.0, np.nan], [0.0, 1.0]) is None


def test_items_of_one_prompt_are_one_cluster():
    """With clusters of equal size this is the one-sample t-test of the clusters' means."""
    rng = np.random.default_rng(5)
    prompts = np.repeat(list("abcd"), 10)
    differences = np.repeat(rng.normal(size=4), 10) + 0.3 * rng.normal(size=40)
    paired = paired_on_items(differences, np.zeros(40), prompts)
    means = [differences[prompts == prompt].mean() for prompt in "abcd"]
    expected: Any = stats.ttest_1samp(means, 0)
    assert paired is not None
    assert paired.p == pytest.approx(expected.pvalue)
    assert paired.low == pytest.approx(expected.confidence_interval().low)
    alone = paired_on_items(differences, np.zeros(40), np.arange(40))
    assert alone == paired_on_items(differences, np.zeros(40))


def test_false_alarms_on_items(few_resamples):
    rng = np.random.default_rng(4)
    tests = [paired_on_items(*rng.normal(size=(2, 60))) for _ in range(500)]
    rate = np.mean([test is not None and test.p < 0.05 for test in tests])
    assert 0.02 < rate < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)


def test_false_alarms_on_clustered_items():
    rng = np.random.default_rng(4)
    prompts = np.repeat(np.arange(4), 10)
    noise = np.repeat(rng.normal(size=(1000, 4)), 10, axis=1) + rng.normal(size=(1000, 40))
    tests = [paired_on_items(row, np.zeros(40), prompts) for row in noise]
    rate = np.mean([test is not None and test.p < 0.05 for test in tests])
    assert rate == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 1000))


def test_a_ratio_of_sums_by_hand():
    # right, wrong, missing, added: 5 of 6 against 4 of 6
    first, second = np.array([[3, 0, 0, 1], [2, 1, 0, 0]]), np.array([[2, 0, 1, 0], [2, 1, 0, 2]])
    names = ("slot_accuracy", "slots_wrong", "slots_missing", "slots_added")
    values = [paired_on_scores(CORPUS_SCORES[name].of, first, second).value for name in names]
    assert values == pytest.approx([1 / 6, 0, -1 / 6, -1 / 6])


TEXTS = ["the mill is a cheap pub .", "alimentum serves chinese food by the river .", "a pub , the mill", "cheap"]
OTHERS = ["the mill is a pub that is cheap .", "alimentum has food .", "the mill is a pub", "it is cheap and good ."]
REFERENCES = [
    ["the mill is a cheap pub near the river .", "cheap pub the mill"],
    ["alimentum serves chinese food ."],
    ["the mill is a pub ."],
    ["it is cheap ."],
]


@pytest.mark.parametrize(("name", "metric"), [("bleu", bleu), ("nist", nist)])
def test_corpus_scores_of_a_resample_are_the_metrics_own(name, metric):
    """The difference on all items, and on a resample of them, is that of the metric on those texts."""
    scores = [metric(Corpus(texts, REFERENCES)) for texts in (TEXTS, OTHERS)]
    tables = [pd.DataFrame({f"{name}_statistics": score.statistics}) for score in scores]
    corpus_score = CORPUS_SCORES[name]
    first, second = (corpus_score.statistics(table) for table in tables)
    assert first is not None
    assert second is not None
    assert paired_on_scores(corpus_score.of, first, second).value == pytest.approx(scores[0].value - scores[1].value)
    drawn = np.array([0, 0, 2, 3])
    assert corpus_score.of(first[drawn].sum(0, keepdims=True)) == pytest.approx(scores[0].resampled(drawn))


@pytest.mark.parametrize("column", [["x", "y"], [[1.0], [1.0, 2.0]], [[1.0], [2.0]], [None, None]])
def test_statistics_that_are_not_a_scores_are_not_compared(column):
    assert CORPUS_SCORES["bleu"].statistics(pd.DataFrame({"bleu_statistics": column})) is None


def test_false_alarms_on_corpus_scores(few_resamples):
    """Two models that state every slot with the same probability, on items of unequal length."""
    rng = np.random.default_rng(2)
    score = CORPUS_SCORES["slot_accuracy"]
    alarms = 0
    for _ in range(300):
        slots = rng.integers(2, 9, 60)
        right = rng.binomial(slots, 0.7, (2, 60))
        models = [np.stack([r, slots - r, 0 * r, 0 * r], axis=1) for r in right]
        alarms += paired_on_scores(score.of, models[0], models[1]).p < 0.05
    assert 0.01 < alarms / 300 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
