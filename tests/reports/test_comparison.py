"""Two runs on the same items: what is paired, what is not claimed, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from reports.__main__ import main
from tests.reports.synthetic import record, write, write_items


@pytest.fixture
def two(tmp_path):
    hard = np.random.default_rng(0).normal(30, 10, 200)
    first, second = write(tmp_path, record("lora", 8)), write(tmp_path, record("lora", 1))
    write_items(first, list(hard + 0.5 + np.random.default_rng(1).normal(0, 1, 200)))
    write_items(second, list(hard))
    return first, second


def test_a_small_difference_on_hard_items_is_seen(two, capsys):
    assert main(["compare", *map(str, two)]) == 0
    text = capsys.readouterr().out
    assert "A better" in text  # clip: higher is better
    assert "adapter.rank" not in text  # the size is in the label
    assert "kid (of the whole set, not paired): A 300.0 n=500 net-a, B 300.0" in text


def test_the_other_way_round(two, capsys):
    main(["compare", str(two[1]), str(two[0])])
    assert "B better" in capsys.readouterr().out


def test_items_of_one_run_only_are_counted(two, capsys):
    write_items(two[1], [1.0, 2.0, 3.0])
    assert main(["compare", *map(str, two)]) == 0
    text = capsys.readouterr().out
    assert "3 items are in both runs; up to 197" in text
    assert "fewer than 30 items" in text


def test_evaluation_settings_that_differ_are_named(two, capsys):
    content = record("lora", 1)
    content["config"]["task"]["base"] = "large"
    write(two[1].parents[2], content)
    main(["compare", *map(str, two)])
    assert "Warning: the evaluation may differ: task.base: A mini, B large" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["missing", "broken", "no items", "other task", "failed"])
def test_what_cannot_be_compared(two, tmp_path, capsys, change):
    first, second = two
    if change == "missing":
        second = tmp_path / "none"
    elif change == "broken":
        (second / "items.parquet").write_bytes(b"PAR1 not really")
    elif change == "no items":
        (second / "items.parquet").unlink()
    elif change == "other task":
        second = write(tmp_path, record(task="texts"))
    else:
        second = write(tmp_path, record(status="failed", reason="diverged", fingerprint="f"))
    assert main(["compare", str(first), str(second)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
