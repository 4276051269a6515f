"""The intrinsic dimension on a tiny task whose runs take milliseconds."""

import json

import pytest

from adapters.lora import Lora
from adapters.subspace import Subspace
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.intrinsic import IntrinsicOptions, measure, summary, variants_of, with_method
from experiments.sweeping.local_launcher import Ended, Started
from reports.records import collect
from tests.contract.tiny import built
from tests.experiments.conftest import RecordingLauncher
from tests.experiments.tiny_regression import TinyRegression

SETTINGS = Train(steps=10, batch_size=1, device="cpu", lr_scheduler="cosine", learning_rate=0.001)
OPTIONS = {
    "seeds": (0, 1),
    "smallest": 4,
    "largest": 800,
    "resolution": 2.0,
    "rate_exponent": 0.5,
    "beside": ("lora",),
    "beside_largest": 2,
}


def measured(folder, task=None, launcher=None, adapter=None, **changes):
    options = IntrinsicOptions(runs=folder, **OPTIONS | changes)
    return measure(RunConfig(adapter or Subspace(), task or TinyRegression(), SETTINGS), options, launcher or RecordingLauncher())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return folder, measured(folder)


def test_every_point_is_an_ordinary_run(outcome):
    folder, found = outcome
    records = {str(run.folder.relative_to(folder)): run.record for run in collect(folder).finished}
    points = [(curve, seed, point) for curve in found["curves"] for seed in curve["seeds"] for point in seed["points"]]
    assert len(records) == len(points) + 2  # and the goal's, a seed
    for curve, seed, point in points:
        record = records[point["run"]]
        assert (record.method, record.seed) == (curve["method"], seed["seed"])
        assert record.size is not None
        assert (record.size.field, record.size.value) == (curve["field"], point["size"])
        assert record.metrics["error"].value == point["value"]


def test_a_point_reaches_where_it_gains_the_share(outcome):
    _, found = outcome
    seeds = {seed["seed"]: seed for seed in found["seeds"]}
    for curve in found["curves"]:
        for own in curve["seeds"]:
            goal = seeds[own["seed"]]["goal"]
            for point in own["points"]:
                gained = (goal["base"] - point["value"]) / (goal["base"] - goal["value"])
                assert point["reached"] == (gained >= 0.9)


def test_did_said_and_what_is_beside(outcome):
    _, found = outcome
    did, said, lora = found["curves"]
    assert (did["name"], said["name"], lora["name"]) == ("DID", "SAID", "lora")
    tensors = len(dict(built("gpt2").model.named_parameters()))
    assert said["range"][0] == tensors + 1 > did["range"][0], "a scale a tensor needs a dimension each"
    assert did["value"] is not None
    assert did["low"] <= did["value"] <= did["high"]
    assert all(own["below"] < own["crossing"] <= own["reaching"] <= 2 * own["below"] for own in did["seeds"])
    assert (lora["value"], lora["above"]) == (None, 2), "so short a training at the fallback's rate: not reached"
    assert all(curve["n"] == 2 for curve in found["curves"])


def test_the_summary_says_how_it_was_measured(outcome):
    text = "\n".join(summary(outcome[1]))
    for part in ("90 %", "error (lower is better, n=1, exact)", "DID: dimension ", "n=2 seeds", "seed 1: "):
        assert part in text


def test_again_nothing_is_run(outcome):
    folder, found = outcome
    launcher = RecordingLauncher()
    again = measured(folder, launcher=launcher)
    assert not launcher.performed
    assert json.dumps(again["curves"]) == json.dumps(found["curves"])


def test_other_seeds_and_forms_begin_where_the_first_ended(outcome):
    did, said, _ = outcome[1]["curves"]
    leader = did["seeds"][0]
    for own in (did["seeds"][1], *said["seeds"]):
        assert own["points"][0]["size"] == leader["reaching"]
        assert len(own["points"]) <= len(leader["points"])


def test_a_run_that_ends_without_a_record_ends_the_search_in_one_sentence(tmp_path):
    class Dying(RecordingLauncher):
        def launch(self, jobs):
            for job in jobs:
                yield Started(job)
                yield Ended(job, "its process ended by SIGKILL")

    with pytest.raises(UsageError, match="full seed 0: its process ended by SIGKILL; what was finished stays"):
        measured(tmp_path, launcher=Dying())


def test_a_method_is_not_searched_beside_itself(tmp_path):
    found = measured(tmp_path, adapter=Lora(), smallest=1, largest=2)
    assert [curve["name"] for curve in found["curves"]] == ["lora"]


def test_the_rate_is_shared_among_the_dimensions(outcome):
    for point in outcome[1]["curves"][0]["seeds"][0]["points"]:
        assert point["learning_rate"] == pytest.approx(0.001 * (Subspace().dimension / point["size"]) ** 0.5, rel=5e-3)


def test_a_goal_that_gains_nothing_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="no way to measure: full does not beat the untuned base in seed 0"):
        measured(tmp_path, TinyRegression(worse_when_tuned=True), seeds=(0,))


def test_settings_without_the_figure_that_sizes_are_judged_by_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(TinyRegression, "primary_metric", "kid")
    with pytest.raises(UsageError, match="these settings measure no kid, by which"):
        measured(tmp_path)
    with pytest.raises(UsageError, match=r"no eror \(did you mean 'error'\?\)"):
        measured(tmp_path, metric="eror")
    assert measured(tmp_path, metric="error", seeds=(0,), largest=4, beside=(), variants=("DID",))["metric"] == "error"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"variants": ("DDI",)}, "did you mean 'DID'"),
        ({"goal": "ful"}, "did you mean 'full'"),
        ({"beside": ("full",)}, "has no size to search"),
        ({"smallest": 5000}, "--largest must be at least 5000 for DID"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(tmp_path, changes, says):
    with pytest.raises(UsageError, match=says):
        measured(tmp_path, **changes)


def test_the_method_may_be_left_out():
    assert with_method(["e2e", "--seeds", "0"]) == ["subspace", "e2e", "--seeds", "0"]
    assert with_method(["lora", "e2e"]) == ["lora", "e2e"]
    assert with_method(["--help"]) == ["--help"]
    with pytest.raises(SystemExit):
        with_method([])
    assert list(variants_of(Subspace(), ())) == ["DID", "SAID"]
