"""`plan`: which cards a configuration fits, the largest batch, and the grid."""

import json
import sys

import pandas as pd
import pytest

from experiments import plan
from experiments.plan import CARDS, PlanOptions, between, largest_batches, make, prepared
from tests.experiments.measure.test_memory import SHAPE, TOKENS, configuration
from tests.experiments.measure.test_memory import task as task  # a fixture


def test_between_two_known_needs_lies_a_straight_line():
    needs = {1: 3.0, 8: 10.0, 16: 26.0}
    assert [between(needs, limit) for limit in (2.9, 3.0, 4.5, 10.0, 12.0, 25.9)] == [0, 1, 2, 8, 9, 15]


@pytest.mark.slow  # what fits 80 GB of a model this small is a batch of millions
def test_the_largest_batch_fits_and_much_more_does_not(task):
    made = make(prepared(configuration(task), PlanOptions()), PlanOptions(context=7.9))
    batches = largest_batches(made)
    assert list(batches) == list(CARDS)
    assert sorted(batches.values()) == list(batches.values())

    def needed(batch: int) -> float:
        return make(configuration(task, batch_size=batch), made.options).needed

    assert needed(batches[8]) <= 8 < needed(int(1.1 * batches[8]) + 2)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | TOKENS))
    return tmp_path


def run(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["plan", *words])
    plan.main()


def test_the_command_names_categories_cards_and_allowances(monkeypatch, capsys, folder):
    run(monkeypatch, "lora", "style", "--task.base", str(folder), "--task.max-length", "32", "--train.batch-size", "2")
    text = capsys.readouterr().out
    for part in (
        "weights",
        "optimizer state",
        "activations",
        "peak of a training step",
        "80 GB",
        "allowances",
        "batch 2",
    ):
        assert part in text


def test_the_grid_is_a_table_and_a_plot(monkeypatch, capsys, folder):
    words = ["--task.base", str(folder), "--grid", "rank=1,4", "batch=1,2,3", "checkpointing"]
    run(monkeypatch, "lora", "style", *words, "--out", str(folder / "grid.svg"))
    table = pd.read_csv(folder / "grid.csv")
    assert len(table) == 2 * 3 * 2
    assert (folder / "grid.svg").read_text().lstrip().startswith("<?xml")
    for _, part in table.groupby(["rank", "checkpointing"]):
        assert part["peak"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--grid", "rnak=1"], "did you mean 'rank'"),
        (["--grid", "rank=many"], "expected values such as"),
        (["--weights", "bf16"], "--precision bf16"),
        (["--grid", "batch", "--out", "plot.txt"], "must end in"),
    ],
)
def test_mistakes_are_one_sentence(monkeypatch, folder, words, says):
    from experiments.errors import UsageError

    with pytest.raises(UsageError, match=says):
        run(monkeypatch, "lora", "style", "--task.base", str(folder), *words)
