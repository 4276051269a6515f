"""Statistics against scipy, cases worked by hand, and simulated data without any difference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reports.statistics import between_seeds, decimals, holm, mean_over_seeds, paired_on_items


def test_one_seed_has_no_interval_over_seeds():
    assert mean_over_seeds([3.0]).low is None
    mean = mean_over_seeds([3.0], items=(2.5, 3.6))
    assert (mean.low, mean.high, mean.how) == (2.5, 3.6, "items of one run")


def test_two_seeds_by_hand():
    # standard error of 1 and 3 is 1; t(0.975, 1) = 12.706
    mean = mean_over_seeds([1.0, 3.0])
    assert (mean.value, mean.n, mean.how) == (2.0, 2, "t over seeds")
    assert mean.low == pytest.approx(2 - 12.706, abs=1e-3)


def test_many_seeds_agree_with_scipys_bootstrap():
    values = np.random.default_rng(1).lognormal(size=30)
    mean = mean_over_seeds(list(values))
    expected = stats.bootstrap((values,), np.mean, n_resamples=50_000, rng=np.random.default_rng(2)).confidence_interval
    assert mean.how == "bootstrap over seeds"
    assert (mean.low, mean.high) == pytest.approx((expected.low, expected.high), rel=0.02)
    assert (mean.low or 0) + (mean.high or 0) > 2 * mean.value  # skewed data, skewed interval


def test_welch_by_hand():
    # variances 1 and 4, n=3: standard error sqrt(5/3), t = -5/1.29099, Welch-Satterthwaite df = 50/17
    difference = between_seeds([1, 2, 3], [5, 7, 9])
    assert difference is not None
    t, df = -5 / np.sqrt(5 / 3), 50 / 17
    assert difference.p == pytest.approx(2 * stats.t.cdf(t, df))
    assert difference.low == pytest.approx(-5 - stats.t.ppf(0.975, df) * np.sqrt(5 / 3))


@pytest.mark.parametrize("first", [[1.0], [2.0, 2.0]])
def test_seeds_that_cannot_show_a_difference(first):
    assert between_seeds(first, [3.0, 3.0]) is None


@pytest.mark.filterwarnings("error")
def test_rounding_is_not_taken_for_noise_between_seeds():
    equal = [0.1 + 0.2, 0.3, 0.3]
    assert between_seeds(equal, [0.3, 0.3]) is None
    difference = between_seeds(equal, [0.4, 0.5])
    assert difference is not None
    assert difference.value == pytest.approx(-0.15)
    mean = mean_over_seeds(equal)
    assert (mean.low, mean.high) == (mean.value, mean.value)


def test_holm_by_hand():
    # sorted: .01 x 4, .02 x 3, .03 x 2, .04 x 1, and never below the one before
    assert holm([0.04, 0.01, None, 0.03, 0.02]) == pytest.approx([0.06, 0.04, None, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_pairing_detects_what_two_means_cannot():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 300)
    paired = paired_on_items(list(hard + 0.5 + rng.normal(0, 1, 300)), list(hard))
    assert paired is not None
    assert paired.p < 0.01
    assert paired.low < 0.5 < paired.high


def test_pairing_is_antisymmetric_and_ignores_values_that_are_not_finite():
    first, second = [1.0, 2.0, 5.0, np.nan], [0.0, 2.0, 1.0, 3.0]
    one, other = paired_on_items(first, second), paired_on_items(second, first)
    assert one is not None
    assert other is not None
    assert one.value == pytest.approx(5 / 3)
    assert one.value == -other.value
    assert paired_on_items([1.0, np.nan], [0.0, 1.0]) is None


def test_false_alarms_between_seeds():
    """In 200 tables of 6 equal groups with 3 seeds, at most 5 % (+ 3 standard errors) may report a difference."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(200, 6, 3))
    alarms = 0
    for groups in data:
        tests = [between_seeds(groups[i], groups[j]) for i in range(6) for j in range(i)]
        alarms += any(p is not None and p < 0.05 for p in holm([t.p if t else None for t in tests]))
    assert alarms / len(data) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(data))


def test_false_alarms_of_one_comparison_are_five_percent():
    rng = np.random.default_rng(3)
    tests = [between_seeds(*rng.normal(size=(2, 5))) for _ in range(1000)]
    rate = np.mean([test is not None and test.p < 0.05 for test in tests])
    assert 0.025 < rate < 0.07  # Welch's test is slightly conservative with five seeds


def test_false_alarms_on_items(monkeypatch):
    monkeypatch.setattr("reports.statistics.RESAMPLES", 999)
    rng = np.random.default_rng(4)
    tests = [paired_on_items(*rng.normal(size=(2, 60))) for _ in range(500)]
    rate = np.mean([test is not None and test.p < 0.05 for test in tests])
    assert 0.02 < rate < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)


@pytest.mark.parametrize(
    ("numbers", "places"), [((405.0, 393.0, 417.0), 0), ((0.2531, 0.2526, 0.2536), 5), ((1486.0,), 0), ((0.0,), 0)]
)
def test_decimals_show_two_digits_of_the_interval(numbers, places):
    assert decimals(*numbers) == places
