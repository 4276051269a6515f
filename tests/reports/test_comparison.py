"""Two runs on the same items: paired differences, figures that cannot be paired, and errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reports.__main__ import main
from reports.errors import ReportError
from tests.reports.synthetic import record, write, write_items


@pytest.fixture
def two_runs(tmp_path):
    hard = np.random.default_rng(0).normal(30, 10, 200)
    first, second = write(tmp_path, record("lora", 8)), write(tmp_path, record("lora", 1))
    write_items(first, list(hard + 0.5 + np.random.default_rng(1).normal(0, 1, 200)))
    write_items(second, list(hard))
    return first, second


def test_pairing_detects_a_small_difference_between_items_of_varying_difficulty(two_runs, capsys):
    main(["compare", *map(str, two_runs)])
    text = capsys.readouterr().out
    assert "A better" in text  # clip: higher is better
    assert "adapter.rank" not in text  # the size is in the label
    assert "kid (whole set, not paired): A 300.0 n=500 net-a, B 300.0 n=500 net-a; unit: " in text
    assert "clip: higher is better" in text


def test_swapping_the_runs_swaps_the_verdict(two_runs, capsys):
    main(["compare", str(two_runs[1]), str(two_runs[0])])
    assert "B better" in capsys.readouterr().out


def test_what_describes_the_items_is_not_compared(two_runs, capsys):
    for run in two_runs:
        items = pd.read_parquet(run / "items.parquet")
        items.assign(tokens=range(len(items))).to_parquet(run / "items.parquet")
    main(["compare", *map(str, two_runs)])
    text = capsys.readouterr().out
    assert "tokens" not in text
    assert "clip" in text


def test_items_missing_from_a_run_are_counted(two_runs, capsys):
    write_items(two_runs[1], [1.0, 2.0, 3.0])
    main(["compare", *map(str, two_runs)])
    text = capsys.readouterr().out
    assert "3 items are in both runs; up to 197 items" in text
    assert "fewer than 30 items" in text


def test_differing_evaluation_settings_are_reported(two_runs, capsys):
    content = record("lora", 1)
    content["config"]["task"]["base"] = "large"
    write(two_runs[1].parents[2], content)
    main(["compare", *map(str, two_runs)])
    assert "Warning: the evaluation may differ: task.base: A mini, B large" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["missing", "broken", "no items", "other task", "failed"])
def test_runs_that_cannot_be_compared(two_runs, tmp_path, change):
    first, second = two_runs
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
    with pytest.raises(ReportError) as error:
        main(["compare", str(first), str(second)])
    assert len(str(error.value).splitlines()) == 1
