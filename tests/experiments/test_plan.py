"""`plan`: which GPUs a configuration fits, the largest batch, and the grid."""

import json
import sys
from dataclasses import replace

import pandas as pd
import pytest

from experiments.errors import UsageError
from experiments.plan import main
from experiments.planning.memory_plan import CARDS, PlanSettings, interpolate_batch, largest_batches, plan
from tests.experiments.measure.test_memory import SHAPE, TOKENS, configuration
from tests.experiments.measure.test_memory import task as task  # a fixture


def test_linear_interpolation_between_predictions():
    needs = {1: 3.0, 8: 10.0, 16: 26.0}
    assert [interpolate_batch(needs, limit) for limit in (2.9, 3.0, 4.5, 10.0, 12.0, 25.9)] == [0, 1, 2, 8, 9, 15]


@pytest.mark.slow  # 80 GB hold a batch of millions of items of a model this small
def test_the_largest_batch_fits_and_a_larger_one_does_not(task):
    first = plan(configuration(task), PlanSettings(context=7.9))
    batches = largest_batches(first)
    assert list(batches) == list(CARDS)
    assert sorted(batches.values()) == list(batches.values())

    def needed(batch: int) -> float:
        return plan(configuration(task, batch_size=batch), first.settings).needed

    assert needed(batches[8]) <= 8 < needed(int(1.1 * batches[8]) + 2)


def test_a_notebook_plans_with_one_call(task):
    config = configuration(task)
    result = plan(config)
    assert result.needed > result.prediction.peak / 2**30
    in_bf16 = replace(config, train=replace(config.train, mixed_precision="bf16"))
    with pytest.raises(UsageError, match=r"--train\.mixed-precision bf16"):
        plan(config, PlanSettings(weights="bf16"))
    assert plan(in_bf16, PlanSettings(weights="bf16")).prediction.peak < plan(in_bf16).prediction.peak


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | TOKENS))
    return tmp_path


def run(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["plan", *words])
    main()


def test_the_command_names_categories_gpus_and_allowances(monkeypatch, capsys, folder):
    words = ["--task.base", str(folder), "--task.max-length", "32", "--train.batch-size", "2"]
    run(monkeypatch, "lora", "style", *words)
    printed = capsys.readouterr()
    for part in (
        "weights",
        "optimizer state",
        "activations",
        "peak of a training step",
        "80 GB",
        "allowances",
        "batch 2",
    ):
        assert part in printed.out
    assert "predicting" in printed.err


def test_the_grid_is_a_table_and_a_plot(monkeypatch, capsys, folder):
    words = ["--task.base", str(folder), "--grid", "rank=1,4", "batch-size=1,2,3", "gradient_checkpointing"]
    run(monkeypatch, "lora", "style", *words, "--output", str(folder / "grid.svg"))
    table = pd.read_csv(folder / "grid.csv")
    assert len(table) == 2 * 3 * 2
    assert (folder / "grid.svg").read_text().lstrip().startswith("<?xml")
    for _, part in table.groupby(["rank", "gradient_checkpointing"]):
        assert part["peak"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--grid", "rnak=1"], "did you mean 'rank'"),
        (["--grid", "rank=many"], "expected values such as"),
        (["--grid", "mixed_precision=fp8"], "expected values such as mixed_precision=no,bf16"),
        (["--weights", "bf16"], "--train.mixed-precision bf16"),
        (["--grid", "batch_size", "--output", "plot.txt"], "must end in"),
    ],
)
def test_mistakes_are_one_sentence(monkeypatch, folder, words, says):
    with pytest.raises(UsageError, match=says):
        run(monkeypatch, "lora", "style", "--task.base", str(folder), *words)
