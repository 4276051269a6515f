"""Searches written for a base become the default learning rates on it."""

import json
import math
from dataclasses import replace

import pytest

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.records.folder import fingerprint
from experiments.sweeping.learning_rates import LearningRateSearch, seed_groups
from experiments.sweeping.rates_file import check_saving, save_searches
from tasks.errors import TaskError
from tasks.pretrained.learning_rates import FILE
from tests.experiments.sweeping.test_learning_rates import finish
from tests.survival.runner import tiny_style

CPU = Train(device="cpu")


@pytest.fixture
def style(tmp_path):
    """The style task with all settings at their defaults but the base."""
    return type(task := tiny_style(tmp_path / "base"))(base=task.base)


def searched(task, folder, adapters, best: float):
    """Groups whose trials are finished: their loss is least at `best`."""
    groups = seed_groups([RunConfig(a, task, CPU).resolved() for a in adapters], folder, LearningRateSearch())
    for group in groups:
        finish(group, lambda rate: math.log(rate / best) ** 2)
    return groups


def test_a_saved_search_gives_the_default_rate(style, tmp_path):
    def run(rank: int, **train) -> RunConfig:
        return RunConfig(Lora(rank=rank), style, replace(CPU, **train)).resolved()

    before, file = run(1), tmp_path / "base" / FILE
    assert before.learning_rate_source == "card"
    assert save_searches(searched(style, tmp_path, [Lora(rank=1)], 1e-2), file) == []
    assert save_searches(searched(style, tmp_path, [Lora(rank=16), FullFinetuning()], 1e-3), file) == []

    rates = {r: (run(r).train.learning_rate or 0.0, run(r).learning_rate_source) for r in (1, 4, 16, 64)}
    assert rates[1] == (pytest.approx(1e-2, rel=0.32), "search")
    assert rates[16] == (pytest.approx(1e-3, rel=0.32), "search")
    assert rates[4] == (pytest.approx(math.sqrt(rates[1][0] * rates[16][0]), rel=1e-3), "interpolated")
    assert rates[64] == (rates[16][0], "nearest")
    assert run(1, learning_rate=0.5).learning_rate_source == "user"
    assert RunConfig(Lora(rank=1), style, replace(CPU, learning_rate=0.5)).resolved().train.learning_rate == 0.5

    assert fingerprint(run(1)) != fingerprint(before)
    assert run(1).content == before.content, "the revision of a base does not contain its searches"


def test_a_search_on_other_files_of_the_base_is_not_used(style, tmp_path):
    card = RunConfig(Lora(rank=1), style, CPU).resolved().train
    save_searches(searched(style, tmp_path, [Lora(rank=1)], 1e-2), tmp_path / "base" / FILE)
    assert RunConfig(Lora(rank=1), style, CPU).resolved().train != card
    (tmp_path / "base" / "generation_config.json").write_text('{"do_sample": true}')
    assert RunConfig(Lora(rank=1), style, CPU).resolved().train == card


def test_a_search_replaces_an_earlier_one_of_the_same_settings_and_keeps_others(style, tmp_path):
    file = tmp_path / FILE
    save_searches(searched(style, tmp_path / "one", [Lora(rank=1), Lora(rank=1, alpha="rank")], 1e-2), file)
    save_searches(searched(style, tmp_path / "two", [Lora(rank=1)], 1e-4), file)
    proportional, fixed = json.loads(file.read_text())["searches"]
    assert (fixed["settings"], fixed["chosen"]) == ({}, pytest.approx(1e-4, rel=0.32))
    assert (proportional["settings"], proportional["chosen"]) == ({"alpha": "rank"}, pytest.approx(1e-2, rel=0.32))
    assert len(proportional["trials"]) > len(fixed["trials"]) == 7, "a grid that grew is in the file as a whole"
    assert (fixed["task"], fixed["method"], fixed["size"]) == ("style", "lora", 1)


def test_an_arm_without_a_rate_is_named_and_the_others_are_written(style, tmp_path):
    groups = searched(style, tmp_path, [Lora(rank=1)], 1e-2)
    (failed,) = seed_groups([RunConfig(Lora(rank=2), style, CPU).resolved()], tmp_path, LearningRateSearch())
    finish(failed, lambda rate: None)
    (reason,) = save_searches([*groups, failed], tmp_path / FILE)
    assert reason.startswith("style lora rank 2: training failed at every learning rate")
    assert [search["size"] for search in json.loads((tmp_path / FILE).read_text())["searches"]] == [1]


def test_rates_are_saved_for_the_default_settings_only(style, tmp_path):
    def check(task=style, **train) -> None:
        config = RunConfig(Lora(), task, replace(CPU, **train)).resolved()
        check_saving(seed_groups([config], tmp_path, LearningRateSearch()), tmp_path / FILE)

    for wrong in ({"task": replace(style, drift_items=3)}, {"steps": 3}):
        with pytest.raises(UsageError, match="--save-rates is for the default task and training settings"):
            check(**wrong)
    check(learning_rate=0.5, seed=3)
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(TaskError, match="does not hold searches"):
        check()
