"""Main effects on simulated sweeps whose effects are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import reports
from reports.__main__ import main
from reports.errors import ReportError
from reports.records import collect
from reports.sweeps.main_effects import main_effects
from reports.tables import build
from tests.reports.sweeps.grids import RANKS, RATES, grid_record
from tests.reports.synthetic import write

OF_RATE, OF_RANK = {0.001: -3.0, 0.01: 0.0, 0.1: 3.0}, {1: -1.0, 4: 0.5, 16: 0.5}
NOISE = 0.3


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """20 + effect(rate) + effect(rank) + noise; the alpha has no effect. Two seeds a cell."""
    runs, draw = tmp_path_factory.mktemp("sweep"), np.random.default_rng(0)
    for rank, rate, alpha, seed in itertools.product(RANKS, RATES, (8, 16), (0, 1)):
        value = 20 + OF_RATE[rate] + OF_RANK[rank] + NOISE * draw.standard_normal()
        content = grid_record(rank, rate, value, seed, fingerprint=f"{rank}-{rate}-{alpha}-{seed}")
        content["config"]["adapter"]["alpha"] = alpha
        write(runs, content)
    return runs


def model_of(runs):
    (model,) = main_effects(build(collect(runs), "drawings"))
    return model


def test_known_effects_are_found(sweep):
    model = model_of(sweep)
    assert model.runs == 36
    assert [effect.setting for effect in model.effects] == ["train.learning_rate", "adapter.rank", "adapter.alpha"]
    for effect, known in zip(model.effects, (OF_RATE, OF_RANK, {8: 0.0, 16: 0.0}), strict=True):
        for level in effect.levels:
            assert level.mean == pytest.approx(20 + known[level.value], abs=3 * NOISE / 12**0.5)
            assert level.low < 20 + known[level.value] < level.high
    rate, rank, alpha = model.effects
    assert rate.p < 1e-9
    assert rank.p < 1e-6
    assert alpha.p > 0.05


def test_versions_of_the_base_are_not_fitted_together(tmp_path):
    for rank, rate, base in itertools.product(RANKS, RATES, "ab"):
        content = {"adapter": {}, "task": {"base": base * 24}}
        write(tmp_path, grid_record(rank, rate, 20.0 + rank, content=content, fingerprint=f"{rank}-{rate}-{base}"))
    with pytest.raises(ReportError, match="several versions of the base or of the data"):
        main_effects(build(collect(tmp_path), "drawings"))


def test_shares_are_those_of_the_variance(sweep):
    """The effects are balanced, so each has its own variance: 6 of the rate, .5 of the rank, .09 of the noise."""
    shares = {effect.setting: effect.share for effect in model_of(sweep).effects}
    total = 6 + 0.5 + NOISE**2
    assert shares["train.learning_rate"] == pytest.approx(6 / total, abs=0.02)
    assert shares["adapter.rank"] == pytest.approx(0.5 / total, abs=0.02)
    assert sum(shares.values()) == pytest.approx(model_of(sweep).explained, abs=1e-9)  # a balanced design


def test_intervals_cover_the_truth_as_often_as_they_say(tmp_path):
    """Over simulated sweeps of nine runs: about 95 % of the intervals of the lowest rate's mean hold it."""
    covered = []
    for number in range(40):
        draw = np.random.default_rng(number)
        for rank, rate in itertools.product(RANKS, RATES):
            value = 20 + OF_RATE[rate] + OF_RANK[rank] + NOISE * draw.standard_normal()
            write(tmp_path / str(number), grid_record(rank, rate, value))
        effect = next(e for e in model_of(tmp_path / str(number)).effects if e.setting == "train.learning_rate")
        covered.append(effect.levels[0].low < 17 < effect.levels[0].high)
    assert 34 <= sum(covered) <= 40  # binomial(40, .95): below 34 once in a thousand


@pytest.mark.parametrize("rates", [RATES, (0.01, 0.001, 0.001)], ids=["each its own", "two share one"])
def test_a_rate_that_follows_the_rank_is_left_out_and_named(tmp_path, rates):
    """As a search for each rank leaves it: what differs is the rank, whatever its rate."""
    for rank, rate in zip(RANKS, rates, strict=True):
        for seed in (0, 1):
            write(tmp_path, grid_record(rank, rate, 10.0 + rank + seed / 10, seed))
    model = model_of(tmp_path)
    assert [effect.setting for effect in model.effects] == ["adapter.rank"]
    assert model.confounded == ("train.learning_rate",)


def test_a_rate_for_each_cell_is_left_out_and_named(tmp_path):
    """As a search for each cell leaves it; what two settings share would otherwise go to the rate."""
    for (i, rank), alpha, seed in itertools.product(enumerate(RANKS), (8, 16), (0, 1)):
        content = grid_record(rank, 0.001 if i * alpha > 8 else 0.01, 10.0 + rank + seed / 10, seed)
        content["config"]["adapter"]["alpha"] = alpha
        write(tmp_path, content | {"fingerprint": f"{rank}-{alpha}-{seed}"})
    model = model_of(tmp_path)
    assert [effect.setting for effect in model.effects] == ["adapter.rank", "adapter.alpha"]
    assert model.confounded == ("train.learning_rate",)


def test_many_values_are_one_slope_over_the_logarithm(tmp_path):
    rates = np.geomspace(1e-4, 1e-1, 12)
    for i, rate in enumerate(rates):
        write(tmp_path, grid_record(4, float(f"{rate:.4g}"), 5 + 2 * np.log10(rate) + 0.01 * (-1) ** i))
    (effect,) = model_of(tmp_path).effects
    lowest, highest = effect.levels
    assert (highest.mean - lowest.mean) / 3 == pytest.approx(2, abs=0.02)  # three factors of ten


def test_a_metric_over_orders_of_magnitude_is_modelled_by_its_logarithm(tmp_path):
    """Each rate multiplies the metric by 10, each rank halves it: additive in the logarithm alone."""
    draw = np.random.default_rng(1)
    for rank, rate in itertools.product(RANKS, RATES):
        write(tmp_path, grid_record(rank, rate, 1e5 * rate / rank**0.5 * np.exp(0.01 * draw.standard_normal())))
    model = model_of(tmp_path)
    assert model.log
    assert model.explained > 0.999
    rate = model.effects[0]
    assert rate.levels[1].mean / rate.levels[0].mean == pytest.approx(10, rel=0.05)


def test_failed_runs_are_counted_and_not_modelled(tmp_path):
    for rank, rate in itertools.product(RANKS, RATES):
        write(tmp_path, grid_record(rank, rate, None if rank == 16 and rate == 0.1 else 20 + OF_RATE[rate] + rank / 50))
    model = model_of(tmp_path)
    assert (model.runs, model.failed) == (8, 1)


def test_too_few_runs_are_one_sentence_that_lists_what_varied(tmp_path):
    for rank in RANKS:
        write(tmp_path, grid_record(rank, 0.01, float(rank)))
    with pytest.raises(ReportError, match=r"more finished runs than its settings .* adapter.rank \(3 values\)"):
        reports.plot("effects", tmp_path)


def test_the_table_and_the_figure_say_the_same(sweep, capsys):
    main(["effects", "drawings", "--runs", str(sweep)])
    text = capsys.readouterr().out
    assert next(line for line in text.splitlines() if line.startswith("train.learning_rate")).split()[1] == (
        f"{model_of(sweep).effects[0].share:.3f}"
    )
    panel = reports.plot("effects", sweep).axes[0]
    assert panel.get_title(loc="left") == "train.learning_rate"
    assert panel.get_xlabel().split(",")[0] == "92 % of variance"
