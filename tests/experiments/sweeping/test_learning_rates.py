"""The learning-rate search: equal budgets, validation data only, recorded completely."""

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.sweeping.learning_rates import FOLDER, LARGEST_RATE, MOST_GROWTH, LearningRateSearch, seed_groups
from experiments.sweeping.runner import find_rates, perform_runs, sweep
from reports.records import collect
from tasks import EndToEnd
from tests.experiments.tiny_task import Tiny, diary_of
from tests.survival.runner import tiny_style

SEARCH = LearningRateSearch(count=3, factor=4.0, share=0.5)


@pytest.fixture
def groups(tmp_path, tiny_task):
    task = Tiny(diary=str(tmp_path))
    seeds = [Train(device="cpu", steps=6, warmup_steps=2, seed=seed) for seed in (0, 1)]
    configs = [
        RunConfig(adapter, task, train).resolved() for train in seeds for adapter in (Lora(rank=2), FullFinetuning())
    ]
    return seed_groups(configs, tmp_path / "runs", SEARCH)


@pytest.mark.parametrize("count", [2, 3, 4, 7])
@pytest.mark.parametrize("centre", [6e-3, 1e-3, 0.0257, 2e-7])
def test_the_grid_lies_around_the_recommended_rate(count, centre):
    rates = LearningRateSearch(count, 3.0, 0.1).rates(centre)
    assert len(rates) == count
    assert math.exp(abs(sum(map(math.log, rates)) / count - math.log(centre))) <= math.sqrt(3) * 1.001
    assert all(b / a == pytest.approx(3, rel=1e-3) for a, b in itertools.pairwise(rates))


@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_searches_from_different_rates_try_the_same_ones(factor):
    search = LearningRateSearch(5, factor)
    tried = [searched(search, centre, lambda rate: math.log(rate / 2e-4) ** 2) for centre in (1e-5, 1.7e-4, 3e-3)]
    every = sorted(set().union(*tried))
    assert all(rate == search._rate(round(2 * search._place(rate)) / 2) for rate in every)
    assert len({min(losses, key=lambda rate: losses[rate] or 0.0) for losses in tried}) == 1


@pytest.mark.parametrize("wrong", [(1, 2.0, 0.5), (3, 1.0, 0.5), (3, 2.0, 0.0), (3, 2.0, 1.5)])
def test_a_senseless_search_is_refused(wrong):
    with pytest.raises(UsageError, match="--search"):
        LearningRateSearch(*wrong)


def test_every_setting_begins_with_as_many_trials_of_the_same_budget(groups):
    assert [len(group.trials()) for group in groups] == [3, 3]
    assert {
        (t.config.train.steps, t.config.train.warmup_steps, t.config.train.seed)
        for group in groups
        for t in group.trials()
    } == {(3, 1, 0)}


def test_another_evaluation_has_the_same_trials(tmp_path):
    search = LearningRateSearch(count=3, factor=4.0)
    tasks = (EndToEnd(), EndToEnd(num_beams=2, drift_items=9), EndToEnd(label_smoothing=0.0))
    trials, others, trained_otherwise = (
        seed_groups([RunConfig(Lora(), task, Train(device="cpu")).resolved()], tmp_path, search)[0].trials()
        for task in tasks
    )
    assert [trial.folder.path for trial in others] == [trial.folder.path for trial in trials]
    assert not {trial.folder.path for trial in trained_otherwise} & {trial.folder.path for trial in trials}


def searched(search: LearningRateSearch, centre: float, loss: Callable[[float], float | None]) -> dict:
    """All rates that the search tries where the loss is a known function of the rate."""
    losses: dict[float, float | None] = {}
    while wanted := search.wanted(centre, losses):
        assert not losses.keys() & set(wanted)
        losses |= {rate: loss(rate) for rate in wanted}
    return losses


@pytest.mark.parametrize("best", [1e-5, 4e-4, 1e-3, 2.2e-3, 3e-2])
def test_the_search_ends_around_the_best_rate(best):
    """On a parabola in log rate the best of the search is within half a factor's root of the minimum, and inside."""
    search = LearningRateSearch(5, 3.0)
    losses = searched(search, 1e-3, lambda rate: math.log(rate / best) ** 2)
    chosen = min(losses, key=lambda rate: losses[rate] or 0.0)
    assert abs(math.log(chosen / best)) <= math.log(3) / 4 + 1e-3
    assert min(losses) < chosen < max(losses)
    assert len(losses) == 7 + max(0, math.ceil(abs(math.log(best / 1e-3)) / math.log(3) - 1.5))


def test_the_search_goes_down_where_high_rates_diverge():
    losses = searched(LearningRateSearch(5, 3.0), 1.0, lambda rate: None if rate > 0.05 else -math.log(rate))
    assert sum(loss is None for loss in losses.values()) >= 3
    chosen = max((rate for rate, loss in losses.items() if loss is not None))
    assert 0.05 / math.sqrt(3) <= chosen <= 0.05


def test_the_search_has_an_end():
    rising = searched(LearningRateSearch(5, 3.0), 1e-3, lambda rate: -rate)
    failing = searched(LearningRateSearch(5, 3.0), 1e-3, lambda rate: None)
    assert (len(rising), len(failing)) == (5 + MOST_GROWTH + 2, 5 + MOST_GROWTH)
    assert max(searched(LearningRateSearch(5, 3.0), 2.0, lambda rate: -rate)) <= LARGEST_RATE


def test_the_search_uses_validation_data_only_and_is_recorded(groups, launcher, tmp_path, capsys):
    find_rates(groups, launcher)
    trials = list(launcher.performed)
    assert {trial.folder for group in groups for trial in group.trials()} == {trial.folder for trial in trials}
    assert "evaluated" not in {line["what"] for lines in diary_of(tmp_path).values() for line in lines}
    find_rates(groups, launcher)
    assert launcher.performed == trials, "finished trials are not repeated"

    configs = [config for group in groups for config in group.configs]
    assert perform_runs(groups, configs, launcher, retry_failed=False) == {}
    collection = collect(tmp_path / "runs")
    assert (len(collection.finished), len(collection.unfinished), len(collection.unreadable)) == (4, 0, 0)
    for run in collection.finished:
        search = run.record.search
        assert search is not None
        losses = {trial.learning_rate: trial.validation_loss or math.inf for trial in search.trials}
        assert search.chosen == run.record.config.train["learning_rate"]
        assert losses[search.chosen] == min(losses.values())
        assert (search.edge is None) == (search.chosen not in (min(losses), max(losses)))
        assert (search.steps, search.share, search.factor) == (3, 0.5, 4.0)
    printed = capsys.readouterr().out
    assert ("a better one may lie beyond" in printed) == any(
        run.record.search.edge for run in collection.finished if run.record.search
    )


def write(trial, loss, failure=None):
    trial.folder.path.mkdir(parents=True)
    result = {"learning_rate": trial.config.train.learning_rate, "validation_loss": loss, "failure": failure}
    trial.file.write_text(json.dumps(result))


def finish(group, loss: Callable[[float], float | None]) -> None:
    """Write the results of all trials that the search asks for."""
    while to_do := [trial for trial in group.trials() if not trial.done]:
        for trial in to_do:
            value = loss(trial.config.train.learning_rate)
            write(trial, value, "diverged: at step 2" if value is None else None)


def test_a_best_rate_at_the_edge_is_recorded(groups):
    group = groups[0]
    finish(group, lambda rate: -rate)
    assert group.outcome()["edge"] == "highest"
    assert group.outcome()["chosen"] == max(trial.config.train.learning_rate for trial in group.trials())


def test_a_rate_that_diverged_loses_and_if_all_do_the_runs_fail(groups, launcher):
    first, second = groups
    finish(first, lambda rate: abs(math.log(rate / 1e-2)) if rate < 3e-2 else None)
    assert (first.outcome()["chosen"], first.outcome()["edge"]) == (pytest.approx(1e-2, rel=1), None)
    finish(second, lambda rate: None)
    failures = perform_runs(groups, [*first.configs, *second.configs], launcher, retry_failed=False)
    assert [job.config for job in failures] == list(second.configs)
    assert {"diverged: at step 2" in reason for reason in failures.values()} == {True}
    assert len(launcher.performed) == 2


def test_a_trial_that_diverges_is_a_result(groups, launcher, monkeypatch):
    from tests.experiments.tiny_task import PreparedTiny

    monkeypatch.setattr(PreparedTiny, "loss", lambda self, batch: self.mean_loss(batch[1]) * float("nan"))
    find_rates(groups[:1], launcher)
    trials = groups[0].trials()
    assert all(trial.done for trial in trials)
    assert {trial.result()["validation_loss"] for trial in trials} == {None}
    assert "diverged" in trials[0].result()["failure"]


def test_runs_wait_for_the_complete_search(groups, launcher):
    write(groups[0].trials()[0], 1.0)
    with pytest.raises(UsageError, match="not complete"):
        groups[0].runs()
    assert groups[0].trials()[0].folder.path.relative_to(groups[0].root).parts[0] == FOLDER


def test_a_prefix_leaves_its_positions_to_the_method_after_it(tmp_path):
    """Rows of 64 tokens on 64 positions: beside a prefix of 24 they are shorter, and without it whole again."""
    task = tiny_style(tmp_path / "base")
    settings: dict[str, Any] = {"train": Train(device="cpu", steps=2, batch_size=4), "search_lr": 2}
    both = sweep([PrefixTuning(length=24), Lora(rank=2)], task, runs=tmp_path / "both", **settings)
    assert [record.status for record in both] == ["finished", "finished"]
    (alone,) = sweep(Lora(rank=2), task, runs=tmp_path / "alone", **settings)
    assert both[1].data["search"] == alone.data["search"]
    assert both[1].data["metrics"] == alone.data["metrics"]


def test_a_card_in_epochs_can_be_searched_in_steps(tmp_path, tiny_task, launcher, monkeypatch):
    card = {"epochs": 4, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 8}  # 32 steps of 16 items
    monkeypatch.setattr(tiny_task, "recommended", lambda self, adapter: card)
    config = RunConfig(Lora(rank=2), tiny_task(), Train(device="cpu", steps=16)).resolved()
    (group,) = seed_groups([config], tmp_path, SEARCH)
    assert [trial.config.for_items(16).warmup_steps for trial in group.trials()] == [2, 2, 2]
    find_rates([group], launcher)
    assert all(trial.result()["failure"] is None for trial in group.trials())


def test_epochs_are_searched_in_epochs(tmp_path, tiny_task, launcher, monkeypatch):
    card = {"epochs": 4, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 8}  # 8 steps each of 16 items
    monkeypatch.setattr(tiny_task, "recommended", lambda self, adapter: card)
    config = RunConfig(Lora(rank=2), tiny_task(), Train(device="cpu")).resolved()
    (group,) = seed_groups([config], tmp_path, SEARCH)
    find_rates([group], launcher)
    assert [trial.config.train.epochs for trial in group.trials()] == [2] * len(group.trials())
    assert all(trial.result()["validation_loss"] is not None for trial in group.trials())
    outcome = group.outcome()
    assert outcome is not None
    assert (outcome["steps"], outcome["share"]) == (16, 0.5)
    assert group.runs()[0].config.train.epochs == 4
    with pytest.raises(UsageError, match=r"--search-share 0\.1 of 4 epochs is less than half an epoch"):
        LearningRateSearch(share=0.1).config(config, 1e-3)
