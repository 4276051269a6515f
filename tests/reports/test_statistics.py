"""Statistics over seeds against scipy, cases worked by hand, and simulated data with known answers."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reports.statistics.components import components
from reports.statistics.power import detectable_difference, levels_in_use
from reports.statistics.seeds import difference, estimate, holm, mean_over_seeds
from reports.text.format import decimals


def test_one_seed_has_no_interval_over_seeds():
    assert mean_over_seeds([3.0]).low is None
    mean = mean_over_seeds([3.0], items=(2.5, 3.6))
    assert (mean.low, mean.high, mean.how) == (2.5, 3.6, "items of one run")


def test_two_seeds_by_hand():
    # standard error of 1 and 3 is 1; t(0.975, 1) = 12.706
    mean = mean_over_seeds([1.0, 3.0])
    assert (mean.value, mean.n, mean.how) == (2.0, 2, "t over seeds")
    assert mean.low == pytest.approx(2 - 12.706, abs=1e-3)


@pytest.mark.parametrize("n", [2, 3, 8, 30])
def test_every_number_of_seeds_has_students_t(n):
    values = np.random.default_rng(n).lognormal(size=n)
    mean = mean_over_seeds(values)
    expected = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert (mean.how, mean.low, mean.high) == ("t over seeds", *map(pytest.approx, expected))


def test_intervals_of_shares_stay_between_0_and_1():
    mean = mean_over_seeds([0.97, 0.99], bounds=(0, 1))
    assert mean.high == 1
    assert mean.low == pytest.approx(0.98 - 12.706 * 0.01, abs=1e-3)


def test_welch_is_scipys():
    first, second = [1.0, 2.0, 3.0], [5.0, 7.0, 9.0, 14.0]
    found = difference(first, second, paired=False)
    expected: Any = stats.ttest_ind(first, second, equal_var=False)
    assert found is not None
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx((expected.confidence_interval().low, expected.confidence_interval().high))


def test_the_paired_test_is_scipys():
    first, second = [1.0, 2.0, 4.0, 3.5], [1.5, 2.2, 4.9, 4.0]
    found = difference(first, second, paired=True)
    expected: Any = stats.ttest_rel(first, second)
    assert found is not None
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx((expected.confidence_interval().low, expected.confidence_interval().high))
    one_sided: Any = stats.ttest_rel(first, second, alternative="greater")
    assert found.p_not_above == pytest.approx(one_sided.pvalue)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("first", [[1.0], [2.0, 2.0]])
def test_seeds_that_cannot_show_a_difference(first, paired):
    assert difference(first, [3.0, 3.0], paired) is None


def test_differences_without_noise_are_tested_by_the_noise_of_the_groups():
    found, welch = (difference([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], paired) for paired in (True, False))
    assert found == welch


@pytest.mark.filterwarnings("error")
def test_rounding_is_not_taken_for_noise_between_seeds():
    equal = [0.1 + 0.2, 0.3, 0.3]
    assert difference(equal, [0.3, 0.3], paired=False) is None
    found = difference(equal, [0.4, 0.5], paired=False)
    assert found is not None
    assert found.value == pytest.approx(-0.15)
    mean = mean_over_seeds(equal)
    assert (mean.low, mean.high) == (mean.value, mean.value)


def test_holm_by_hand():
    # sorted: .01 x 4, .02 x 3, .03 x 2, .04 x 1, and never below the one before
    p_values = [0.04, 0.01, None, 0.03, 0.02]
    assert holm(p_values) == pytest.approx([0.06, 0.04, None, 0.06, 0.06])
    # .01 passes .05 / 4; .02 fails .05 / 3, so that the others fail there too
    assert levels_in_use(p_values, 0.05) == pytest.approx([0.05 / 3, 0.05 / 4, None, 0.05 / 3, 0.05 / 3])
    # all pass; adjusted they are equal, but each was tested at a level of its own
    assert holm([0.012, 0.011, 0.01]) == pytest.approx([0.03] * 3)
    assert levels_in_use([0.012, 0.011, 0.01], 0.05) == pytest.approx([0.05, 0.05 / 2, 0.05 / 3])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize(("seeds", "level"), [(3, 0.05), (3, 0.05 / 5), (6, 0.05 / 5)])
def test_the_power_at_the_detectable_difference_is_80_percent(seeds, level):
    """A study reports the difference that its size can detect; a repetition with this true difference mostly does."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(2000):
        study = estimate(rng.normal(0, 1, seeds))
        repetition = estimate(rng.normal(detectable_difference(study, level), 1, seeds))
        found += repetition.p < level
    assert found / 2000 == pytest.approx(0.8, abs=3 * np.sqrt(0.8 * 0.2 / 2000))


def crossed(rng, n, r, training, evaluation, interaction):
    """Values (n, r) with these standard deviations of their effects."""
    effects = training * rng.normal(size=(n, 1)) + evaluation * rng.normal(size=(1, r))
    return effects + interaction * rng.normal(size=(n, r))


@pytest.mark.parametrize("deviations", [(1, 1, 0.5), (1, 0, 0.2), (0.2, 1, 0.2), (0, 0, 1)])
def test_intervals_contain_the_noise_of_training_and_of_evaluation(deviations):
    rng, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        mean = mean_over_seeds(crossed(rng, 4, 5, *deviations))
        assert mean.low is not None
        assert mean.high is not None
        covered += mean.low <= 0 <= mean.high
    assert 0.93 <= covered / 1000 <= 1


def test_the_crossed_estimate_by_hand():
    # rows 1 3 / 5 9: means 2, 7 and 3, 6; mean squares: training 2 (2.5^2 + 2.5^2) = 25, evaluation 2 (1.5^2 + 1.5^2)
    # = 9, interaction 4 x 0.5^2 = 1; variance of the mean (25 + 9 - 1) / 4; df 33^2 / (25^2 + 9^2 + 1)
    found = estimate([[1.0, 3.0], [5.0, 9.0]])
    assert (found.value, found.error**2, found.df) == pytest.approx((4.5, 33 / 4, 33**2 / 707))
    parts = components([[1.0, 3.0], [5.0, 9.0]], error=3)
    # evaluations of one training: variances 2 and 8, so 5; items: 3^2 less the half of it
    assert (parts.training, parts.evaluation, parts.items) == pytest.approx((12, 5, 9 - 2.5))


def test_components_of_simulated_data():
    rng = np.random.default_rng(1)
    found = [astuple(components(crossed(rng, 6, 5, 3, 2, 1), None))[:2] for _ in range(2000)]
    assert np.mean(np.array(found, float), axis=0) == pytest.approx([9, 4 + 1], rel=0.06)


def test_a_single_run_has_no_training_variance():
    parts = components([[1.0, 2.0, 3.0]], None)
    assert (parts.training, parts.evaluation, parts.items) == (None, 1.0, None)


def test_false_alarms_of_one_comparison_are_five_percent():
    rng = np.random.default_rng(3)
    for paired, low in ((True, 0.03), (False, 0.025)):  # Welch's test is slightly conservative with five seeds
        pairs = rng.normal(size=(1000, 2, 5))
        tests = [difference(first, second, paired) for first, second in pairs]
        rate = np.mean([test is not None and test.p < 0.05 for test in tests])
        assert low < rate < 0.07


@pytest.mark.parametrize(
    ("numbers", "places"), [((405.0, 393.0, 417.0), 0), ((0.2531, 0.2526, 0.2536), 5), ((1486.0,), 0), ((0.0,), 0)]
)
def test_decimals_show_two_digits_of_the_interval(numbers, places):
    assert decimals(*numbers) == places
