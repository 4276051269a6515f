"""The outcome of a search: read beside the runs, drawn, and said in words where it lies outside the range."""

from __future__ import annotations

import numpy as np
import pytest

from reports.__main__ import main
from reports.intrinsic import Curve
from reports.plots import style
from reports.plots.intrinsic import crossings
from reports.records import collect
from tests.reports.synthetic import outcome, study


@pytest.fixture
def runs(tmp_path):
    study(tmp_path / "runs")
    outcome(tmp_path / "runs")
    return tmp_path / "runs"


def test_it_counts_as_no_run(runs):
    found = collect(runs)
    assert (len(found.finished), len(found.unreadable), len(found.outcomes)) == (9, 0, 1)
    assert list(found.of_task("drawings").outcomes) == list(found.outcomes)


def test_what_lies_outside_the_range_is_said(runs):
    (found,) = collect(runs).outcomes.values()
    texts = [curve.text for curve in found.curves]
    assert texts == ["3,162 [1,500, 6,700]", "unknown [9,000, above 100,000]", "at most 1"]


@pytest.mark.parametrize(("above", "under", "text"), [(2, 0, "above 64"), (0, 2, "at most 1"), (1, 1, "unknown")])
def test_a_median_that_lies_outside_the_range_is_said(above, under, text):
    low, high = (None if under else 40.0), (None if above else 50.0)
    counts = {"n": 3, "above": above, "at_or_below": under, "how": "median", "seeds": []}
    curve = Curve("lora", "lora", "rank", (1.0, 64.0), None, low, high, **counts)
    assert curve.text.startswith(f"{text} [")


def test_the_plot_marks_the_size_and_the_target(runs):
    (found,) = collect(runs).outcomes.values()
    sizes, ranks = crossings(found).axes
    across = [np.asarray(line.get_xdata(), float) for line in sizes.lines]
    upright = [float(x[0]) for x in across if len(x) > 1 and np.ptp(x) == 0]
    assert upright == [3162.0]
    assert (sizes.get_xscale(), sizes.get_xlabel(), ranks.get_xlabel()) == ("log", "dimension", "rank")
    assert {"90 %", "full", "untuned base"} <= {text.get_text() for text in sizes.texts}


def test_the_page_has_it_too(runs, tmp_path):
    assert main(["page", "--runs", str(runs), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "index.html").read_text()
    for part in ("Smallest size that reaches 90 % of what full gains in kid", "3,162 [1,500, 6,700]", "n=500"):
        assert part in text


def test_a_broken_one_is_counted_and_named(runs, capsys):
    outcome(runs, broken=True)
    assert not collect(runs).outcomes
    assert main(["table", "drawings", "--runs", str(runs)]) == 0
    assert "intrinsic-abc.json: it is no outcome" in " ".join(capsys.readouterr().out.split())


def test_drawn_again_it_is_the_same(runs, tmp_path):
    (found,) = collect(runs).outcomes.values()
    for out in ("one", "two"):
        with style.style():
            style.save(crossings(found), tmp_path / out, found.notes)
    for kind in ("svg", "png"):
        first, second = ((tmp_path / f"{out}.{kind}").read_bytes() for out in ("one", "two"))
        assert first == second


def test_plots_draws_it(runs, tmp_path):
    assert main(["plots", "--runs", str(runs), "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").rglob("intrinsic*")} == {"intrinsic-abc.svg", "intrinsic-abc.png"}
