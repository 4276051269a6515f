"""Intrinsic dimensions: read next to the runs, drawn, and described in words if they lie outside the range."""

from __future__ import annotations

import json

import numpy as np
import pytest

from reports.__main__ import main
from reports.intrinsic import CurveRecord
from reports.plots import style
from reports.plots.intrinsic import crossings
from reports.records import collect
from tests.reports.synthetic import intrinsic_record, study


@pytest.fixture
def runs(tmp_path):
    study(tmp_path / "runs")
    intrinsic_record(tmp_path / "runs")
    return tmp_path / "runs"


def test_a_result_is_not_counted_as_a_run(runs):
    collection = collect(runs)
    assert (len(collection.finished), len(collection.unreadable), len(collection.intrinsic)) == (9, 0, 1)
    assert list(collection.of_task("drawings").intrinsic) == list(collection.intrinsic)


def test_sizes_outside_the_range_are_marked(runs):
    (result,) = collect(runs).intrinsic.values()
    texts = [curve.text for curve in result.curves]
    assert texts == ["3,162 [1,500, 6,700]", "unknown [9,000, above 100,000]", "at most 1"]


@pytest.mark.parametrize(
    ("above", "under", "text"),
    [(2, 0, "above 64"), (3, 0, "not reached up to 64"), (0, 2, "at most 1"), (1, 1, "unknown")],
)
def test_a_median_outside_the_range_is_marked(above, under, text):
    low, high = (None if under else 40.0), (None if above else 50.0)
    counts = {"n": 3, "above": above, "at_or_below": under, "how": "median", "seeds": []}
    curve = CurveRecord("lora", "lora", "rank", (1.0, 64.0), None, low, high, **counts)
    assert curve.text == text if above == 3 else curve.text.startswith(f"{text} [")


def test_definition_and_shape_are_said(runs):
    file = intrinsic_record(runs)
    content = json.loads(file.read_text())
    content["curves"][2]["seeds"][0]["shape"] = "the target is never reached: a plateau"
    file.write_text(json.dumps(content))
    (result,) = collect(runs).intrinsic.values()
    assert "lora, seed 0: the target is never reached: a plateau." in result.notes
    assert "the d90 of Aghajanyan et al. (2020), a share of performance, is another figure" in result.notes[0]
    file.write_text(json.dumps(content | {"of": "performance"}))
    (result,) = collect(runs).intrinsic.values()
    assert "is 90 % of the value of the full run of that seed, " in result.notes[0]
    assert "as Aghajanyan et al. (2020) define d90" in result.notes[0]
    assert result.title.startswith("Smallest size that reaches 90 % of the performance of full")
    seeds = [{**seed, "goal": {**seed["goal"], "run": None}} for seed in content["seeds"]]
    file.write_text(json.dumps(content | {"goal": "the teacher", "seeds": seeds}))
    (result,) = collect(runs).intrinsic.values()
    assert "lies 90 % of the way from the untuned base to the teacher; the d90" in result.notes[0]


def test_the_plot_marks_the_size_and_the_target(runs):
    (result,) = collect(runs).intrinsic.values()
    sizes, ranks = crossings(result).axes
    across = [np.asarray(line.get_xdata(), float) for line in sizes.lines]
    upright = [float(x[0]) for x in across if len(x) > 1 and np.ptp(x) == 0]
    assert upright == [3162.0]
    assert (sizes.get_xscale(), sizes.get_xlabel(), ranks.get_xlabel()) == ("log", "dimension", "rank")
    assert {"90 %", "full", "untuned base"} <= {text.get_text() for text in sizes.texts}


def test_the_page_shows_the_result(runs, tmp_path):
    main(["page", "--runs", str(runs), "--output", str(tmp_path / "out")])
    text = (tmp_path / "out" / "index.html").read_text()
    for part in ("Smallest size that reaches 90 % of the gain of full in kid", "3,162 [1,500, 6,700]", "n=500"):
        assert part in text


def test_a_broken_record_is_reported(runs, capsys):
    intrinsic_record(runs, broken=True)
    assert not collect(runs).intrinsic
    main(["table", "drawings", "--runs", str(runs)])
    assert "intrinsic-abc.json: not a record of experiments.intrinsic" in " ".join(capsys.readouterr().out.split())


def test_plots_are_reproducible(runs, tmp_path):
    (result,) = collect(runs).intrinsic.values()
    for out in ("one", "two"):
        with style.style_context():
            style.save(crossings(result), tmp_path / out, result.notes)
    for kind in ("svg", "png"):
        first, second = ((tmp_path / f"{out}.{kind}").read_bytes() for out in ("one", "two"))
        assert first == second


def test_plots_writes_both_formats(runs, tmp_path):
    main(["plots", "--runs", str(runs), "--output", str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").rglob("intrinsic*")} == {"intrinsic-abc.svg", "intrinsic-abc.png"}
