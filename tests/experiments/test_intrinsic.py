"""The intrinsic dimension on a tiny task whose runs take milliseconds."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from adapters.lora import Lora
from adapters.subspace import Subspace
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.intrinsic import with_method
from experiments.search.goals import Goal, RunGoal
from experiments.search.intrinsic_dimension import IntrinsicSettings, intrinsic_dimension, variants_of
from experiments.search.outcome_text import outcome_text
from experiments.sweeping.jobs import RunJob
from experiments.sweeping.local_launcher import Ended, Started
from reports.intrinsic import IntrinsicRecord
from reports.records import collect
from tasks.base import Metric, declare
from tests.contract.tiny import built
from tests.experiments.conftest import RecordingLauncher
from tests.experiments.tiny_regression import TinyRegression

SETTINGS = Train(steps=10, batch_size=1, device="cpu", lr_scheduler="cosine", learning_rate=0.001)
OPTIONS = {
    "seeds": (0, 1),
    "smallest": 4,
    "largest": 800,
    "resolution": 2.0,
    "other_methods": ("lora",),
    "other_largest": 2,
}


def search(folder, task=None, launcher=None, adapter=None, **changes):
    config = RunConfig(adapter or Subspace(), task or TinyRegression(), SETTINGS)
    settings = IntrinsicSettings(**OPTIONS | changes)
    return intrinsic_dimension(config, settings, folder, launcher or RecordingLauncher())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return folder, search(folder)


def test_every_point_is_an_ordinary_run(outcome):
    folder, result = outcome
    records = {str(run.folder.relative_to(folder)): run.record for run in collect(folder).finished}
    points = [(curve, seed, point) for curve in result["curves"] for seed in curve["seeds"] for point in seed["points"]]
    assert len(records) == len(points) + 2  # and the goal's, one per seed
    for curve, seed, point in points:
        record = records[point["run"]]
        assert (record.method, record.seed) == (curve["method"], seed["seed"])
        assert record.size is not None
        assert (record.size.field, record.size.value) == (curve["field"], point["size"])
        assert record.metrics["error"].value == point["value"]


def test_a_point_reaches_the_target_if_it_gains_the_share(outcome):
    _, result = outcome
    seeds = {seed["seed"]: seed for seed in result["seeds"]}
    for curve in result["curves"]:
        for seed in curve["seeds"]:
            goal = seeds[seed["seed"]]["goal"]
            for point in seed["points"]:
                gained = (goal["base"] - point["value"]) / (goal["base"] - goal["value"])
                assert point["reached"] == (gained >= 0.9)


def test_the_share_of_performance_is_the_papers_definition(tmp_path, outcome):
    """`error` is lower is better, so the metric is turned around: 90 % of full's value, wherever the base stands."""
    config = RunConfig(Subspace(), TinyRegression(), SETTINGS)
    error = TinyRegression.metrics["error"]
    goal = RunGoal(error, 0.9, "performance", 0, "subspace", RunJob(config.resolved(), tmp_path))
    with pytest.raises(UsageError, match="--of performance needs a metric of which higher is better, and lower error"):
        search(tmp_path, of="performance")
    assert not list(tmp_path.iterdir())
    figure = {"value": 80.0, "base": 60.0, "n": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.search.goals.figure_of", lambda run, metric: figure)
        patch.setattr(Goal, "reaches", lambda self, value, target: value >= target)
        assert goal.as_record()["target"] == 72
        assert replace(goal, of="gain").as_record()["target"] == 78
        figure["base"] = 75.0
        assert "already reaches 90% of the performance of subspace" in goal.as_record()["reason"]
    assert outcome[1]["of"] == "gain"
    assert "of" not in outcome[1]["settings"]["options"]  # the file's name is that of an earlier release's result


def test_a_curve_that_never_crosses_is_said(outcome):
    text = outcome_text(outcome[1])
    assert "lora: rank not reached up to 2" in text
    assert "not reached up to 2; the target is never reached: " in text
    assert "the d90 of Aghajanyan et al. 2020 is another figure (--of performance)" in text


def test_variants_and_other_methods(outcome):
    _, result = outcome
    did, said, lora = result["curves"]
    assert (did["name"], said["name"], lora["name"]) == ("DID", "SAID", "lora")
    tensors = len(dict(built("gpt2").model.named_parameters()))
    assert said["range"][0] == tensors + 1 > did["range"][0], "one scale per tensor needs one dimension each"
    assert did["value"] is not None
    assert did["low"] <= did["value"] <= did["high"]
    assert all(seed["below"] < seed["crossing"] <= seed["reaching"] <= 2 * seed["below"] for seed in did["seeds"])
    assert (lora["value"], lora["above"]) == (None, 2), "so few steps at the fallback learning rate do not reach it"
    assert all(curve["n"] == 2 for curve in result["curves"])


def test_the_text_says_how_it_was_measured(outcome):
    text = outcome_text(outcome[1])
    for part in ("90 %", "error (lower is better, n=1, exact)", "DID: dimension ", "n=2 seeds", "seed 1: "):
        assert part in text


def test_nothing_runs_twice(outcome):
    folder, result = outcome
    launcher = RecordingLauncher()
    again = search(folder, launcher=launcher)
    assert not launcher.performed
    assert json.dumps(again["curves"]) == json.dumps(result["curves"])


def test_other_seeds_and_variants_start_where_the_first_ended(outcome):
    did, said, _ = outcome[1]["curves"]
    first = did["seeds"][0]
    for seed in (did["seeds"][1], *said["seeds"]):
        assert seed["points"][0]["size"] == first["reaching"]
        assert len(seed["points"]) <= len(first["points"])


def test_a_run_without_a_record_ends_the_search_in_one_sentence(tmp_path):
    class Dying(RecordingLauncher):
        def launch(self, jobs):
            for job in jobs:
                yield Started(job)
                yield Ended(job, "its process ended by SIGKILL")

    with pytest.raises(UsageError, match="full seed 0: its process ended by SIGKILL; finished runs are on disk"):
        search(tmp_path, launcher=Dying())


def test_a_method_is_searched_only_once(tmp_path):
    result = search(tmp_path, adapter=Lora(), smallest=1, largest=2)
    assert [curve["name"] for curve in result["curves"]] == ["lora"]


def test_without_a_search_the_learning_rate_follows_the_methods_law(outcome):
    did, _, lora = outcome[1]["curves"]
    for point in did["seeds"][0]["points"]:
        assert point["learning_rate"] == pytest.approx(0.001 * (Subspace().dimension / point["size"]) ** 0.5, rel=5e-3)
    assert {point["learning_rate"] for point in lora["seeds"][0]["points"]} == {1e-4}, "its alpha is fixed"
    assert did["rates"] == "learning rates not tuned for each size: 0.001 times (10,000 / dimension) ** 0.5"
    assert lora["rates"] == "learning rates not tuned for each size: 0.0001"
    assert f"DID: {did['rates']}." in msgspec.convert(outcome[1], IntrinsicRecord).notes
    assert did["rates"] in outcome_text(outcome[1])


def test_rates_that_a_search_has_found_are_used_at_every_size(tmp_path, monkeypatch):
    def searched_rate(self, adapter, size, settings):
        return (0.01 / size, "search" if size == 8 else "interpolated") if adapter == "subspace" else None

    monkeypatch.setattr(TinyRegression, "searched_rate", searched_rate)
    changes = {"seeds": (0,), "variants": ("DID",), "other_methods": (), "smallest": 8, "largest": 64}
    config = RunConfig(Subspace(), TinyRegression(), replace(SETTINGS, learning_rate=None))
    outcome = intrinsic_dimension(config, IntrinsicSettings(**OPTIONS | changes), tmp_path, RecordingLauncher())
    (curve,) = outcome["curves"]
    assert all(point["learning_rate"] == 0.01 / point["size"] for point in curve["seeds"][0]["points"])
    assert "found by search on the base: at sizes that were searched, interpolated" in curve["rates"]


def test_a_goal_that_gains_nothing_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="no gain to compare with: full does not beat the untuned base in seed 0"):
        search(tmp_path, TinyRegression(worse_when_tuned=True), seeds=(0,))


def test_a_known_goal_needs_no_run_of_its_own(tmp_path, monkeypatch):
    """90 % of the way to an error of 0 instead of 90 % of full fine-tuning's gain; --goal full asks for that."""
    known = replace(TinyRegression.metrics["error"], perfect=("the truth", 0.0))
    monkeypatch.setattr(TinyRegression, "metrics", {**TinyRegression.metrics, "error": known})
    changes: dict[str, Any] = {"seeds": (0,), "variants": ("DID",), "other_methods": ()}
    outcome = search(tmp_path, **changes)
    (seed,), (curve,) = outcome["seeds"], outcome["curves"]
    assert seed["goal"]["value"] == 0
    assert seed["target"] == pytest.approx(0.1 * seed["goal"]["base"])
    assert {run.record.method for run in collect(tmp_path).finished} == {"subspace"}
    assert "of the gain of the truth in error" in outcome_text(outcome)
    for point in curve["seeds"][0]["points"]:
        assert point["reached"] == (point["value"] <= seed["target"])
    with_full = search(tmp_path, goal="full", **changes)
    assert with_full["seeds"][0]["goal"]["run"].startswith("tiny-regression/full/")
    assert with_full["settings"]["options"]["goal"] == "full"
    assert outcome["settings"]["options"]["goal"] is None


def test_settings_that_do_not_measure_the_metric_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        TinyRegression, "metrics", declare(Metric("kid", "lower", "", ""), *TinyRegression.metrics.values())
    )
    monkeypatch.setattr(TinyRegression, "primary_metric", "kid")
    with pytest.raises(UsageError, match="these settings do not measure kid, which decides"):
        search(tmp_path)
    with pytest.raises(UsageError, match=r"do not measure eror \(did you mean 'error'\?\)"):
        search(tmp_path, metric="eror")
    assert (
        search(tmp_path, metric="error", seeds=(0,), largest=4, other_methods=(), variants=("DID",))["metric"]
        == "error"
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"variants": ("DDI",)}, "did you mean 'DID'"),
        ({"goal": "ful"}, "did you mean 'full'"),
        ({"other_methods": ("full",)}, "has no size to search"),
        ({"smallest": 4, "largest": 5}, "--largest must be at least .* for SAID on this model"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, changes, says):
    with pytest.raises(UsageError, match=says):
        search(tmp_path, **changes)


def test_the_method_is_optional():
    assert with_method(["e2e", "--seeds", "0"]) == ["subspace", "e2e", "--seeds", "0"]
    assert with_method(["lora", "e2e"]) == ["lora", "e2e"]
    assert with_method(["--help"]) == ["--help"]
    with pytest.raises(SystemExit):
        with_method([])
    assert list(variants_of(Subspace(), ())) == ["DID", "SAID"]
