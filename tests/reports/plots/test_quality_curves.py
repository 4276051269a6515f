"""Quality along training: the mean over seeds, the best step, what is left out, and what is said without curves."""

from __future__ import annotations

import json

import numpy as np
import pytest

import reports
from reports.__main__ import main
from reports.errors import ReportError
from reports.plots.draw import View, figures
from reports.quality_curves import best_settings, group_curves, run_curve
from reports.records import collect, read_run
from reports.tables import build
from tests.reports.synthetic import curve, figure, record, write

SEEDS = ({0: 1486.0, 10: 500.0, 20: 310.0, 30: 340.0}, {0: 1486.0, 10: 480.0, 20: 330.0, 30: 320.0})


@pytest.fixture
def runs(tmp_path):
    """Two seeds whose mean is best at step 20 (320, then 330), and full, which is best at its last step."""
    for seed, values in enumerate(SEEDS):
        curve(write(tmp_path, record("lora", 8, seed)), values)
    curve(
        write(tmp_path, record("full", None, 0, 290.0)),
        {0: 1486.0, 10: 700.0, 20: 400.0, 30: 290.0},
        low=1.0,
        high=999.0,
    )
    return tmp_path


def curves_of(runs, metric="kid", lower=True):
    return {found.group.label: found for found in group_curves(build(collect(runs), "drawings").rows, metric, lower)}


def notes_of(runs, metric="kid"):
    table = build(collect(runs), "drawings")
    ((_, _, lines),) = figures(table, collect(runs).of_task("drawings"), "curves", View([metric]))
    return "\n".join(lines)


def test_the_mean_over_seeds_and_its_best_step(runs):
    found = curves_of(runs)
    assert [(step, mean.value, mean.n) for step, mean in found["lora 8"].means] == [
        (0, 1486.0, 2), (10, 490.0, 2), (20, 320.0, 2), (30, 330.0, 2),
    ]  # fmt: skip
    assert found["lora 8"].best == found["lora 8"].means[2]
    assert found["full"].best == found["full"].means[-1]
    assert found["full"].means[-1][1].how == "items of one run"


@pytest.mark.parametrize(("lower", "best"), [(True, 10), (False, 20)])
def test_the_untuned_base_is_not_the_best_step_and_the_earlier_of_equal_ones_is(tmp_path, lower, best):
    curve(write(tmp_path, record()), {0: 0.0 if lower else 99.0, 10: 5.0, 20: 6.0, 30: 5.0, 40: 6.0})
    (found,) = curves_of(tmp_path, lower=lower).values()
    assert found.best is not None
    assert found.best[0] == best


def test_the_mean_is_of_the_steps_that_all_seeds_evaluated(tmp_path):
    curve(write(tmp_path, record(seed=0)), {0: 9.0, 10: 4.0, 20: 2.0})
    curve(write(tmp_path, record(seed=1)), {0: 9.0, 20: 4.0, 40: 1.0})
    (found,) = curves_of(tmp_path).values()
    assert [(step, mean.value) for step, mean in found.means] == [(0, 9.0), (20, 3.0)]


def test_the_plot_has_a_line_per_method_and_size_and_rings_the_best_step(runs):
    panel = reports.plot("curves", runs).axes[0]
    labelled = {
        line.get_label(): np.asarray(line.get_xydata()).tolist()
        for line in panel.lines
        if str(line.get_label())[0] != "_"
    }
    assert labelled == {
        "full": [[0, 1486], [10, 700], [20, 400], [30, 290]],
        "lora 8": [[0, 1486], [10, 490], [20, 320], [30, 330]],
    }
    rings = [line for line in panel.lines if line.get_markersize() == 10]
    assert [np.asarray(line.get_xydata()).tolist() for line in rings] == [[[30, 290]], [[20, 320]]]
    thin = [np.asarray(line.get_ydata()).tolist() for line in panel.lines if line.get_linewidth() < 1]
    assert thin == [[*values.values()] for values in SEEDS]  # full has one seed, which is its mean
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("step", "kid (x1000)\nlower is better")


def test_an_interval_outside_of_the_frame_is_marked(runs):
    """That of two seeds is 12.7 standard errors on each side."""
    panel = reports.plot("curves", runs).axes[0]
    bottom, top = panel.get_ylim()
    marks = [line for line in panel.lines if line.get_marker() in ("^", "v") and line.get_markersize() == 4]
    places = sorted(tuple(np.asarray(line.get_xydata())[0]) for line in marks)
    assert places == [(20, bottom), (30, bottom), (30, top)]
    assert top < 1486


def test_the_items_of_each_evaluation_are_said(runs):
    text = notes_of(runs)
    assert "n=50 of the final evaluation's 500 at each step" in text
    assert "Best: full at step 30 (290.0), lora 8 at step 20 (320.0)." in text


def test_of_a_method_and_size_the_settings_that_end_best_are_drawn(runs):
    for rate, last in ((0.001, 900.0), (0.1, 200.0)):
        content = record("lora", 8, 0, last, fingerprint=str(rate))
        content["config"]["train"]["learning_rate"] = rate
        curve(write(runs, content), {0: 1486.0, 10: 100.0, 30: last})
    found = group_curves(build(collect(runs), "drawings").rows, "kid", True)
    assert [(each.group.label, each.means[-1][1].value) for each in best_settings(found)] == [
        ("full", 290),
        ("lora 8", 200),
    ]
    assert "Left out: 2 other settings of a method and size" in notes_of(runs)


def test_a_failed_run_ends_in_a_cross(runs):
    fields = {"status": "failed", "reason": "diverged", "metrics": {}, "primary_metric": None}
    curve(write(runs, record("lora", 64, 0, **fields)), {0: 1486.0, 10: 500.0, 20: 320.0})
    panel = reports.plot("curves", runs).axes[0]
    (cross,) = [line for line in panel.lines if line.get_marker() == "x"]
    assert np.asarray(cross.get_xydata()).tolist() == [[20, 320]]
    assert "lora 64 (failed)" in {line.get_label() for line in panel.lines}


def test_a_run_with_curves_and_one_without_are_seeds_of_one_group(tmp_path):
    """The training is the same to the bit."""
    for seed, every in ((0, 10), (1, None)):
        content = record(seed=seed)
        content["config"]["train"] |= {"evaluate_every": every, "evaluate_share": 0.1}
        folder = write(tmp_path, content)
        if every:
            curve(folder, SEEDS[0])
    (row,) = build(collect(tmp_path), "drawings").rows
    assert (len(row.finished), row.settings) == (2, {})


def test_without_curves_one_sentence_says_what_makes_them(tmp_path, runs):
    write(tmp_path / "bare", record())
    with pytest.raises(ReportError, match=r"no run of 'drawings' has a curve.*--train.evaluate-every N"):
        reports.plot("curves", tmp_path / "bare")
    with pytest.raises(ReportError, match=r"no run of 'drawings' has a curve.*--train.evaluate-every N"):
        main(["plots", "--runs", str(tmp_path / "bare"), "--output", str(tmp_path / "out"), "--only", "curves"])
    with pytest.raises(ReportError, match=r"no run of 'drawings' evaluated clip along its training, but kid"):
        reports.plot("curves", runs, metric="clip")


def test_any_metric_is_drawn_and_written(tmp_path, capsys):
    metrics = {"kid": figure(300.0), "alignment": figure(0.9, better="higher", unit="share")}
    curve(write(tmp_path, record(metrics=metrics)), {0: 0.1, 10: 0.8, 20: 0.7}, "alignment", low=0.5, high=1.2)
    arguments = ["plots", "--runs", str(tmp_path), "--output", str(tmp_path / "out"), "--only", "curves"]
    main([*arguments, "--metrics", "alignment"])
    assert sorted(path.name for path in (tmp_path / "out").glob("*/*")) == [
        "curves-alignment.png",
        "curves-alignment.svg",
    ]
    (found,) = curves_of(tmp_path, "alignment", lower=False).values()
    assert found.best is not None
    assert (found.best[0], found.best[1].high) == (10, 1.0)  # a share


def test_what_is_no_finite_number_is_left_out(tmp_path):
    folder = write(tmp_path, record())
    lines = [
        '{"step": 0, "metrics": {"kid": {"value": 5}}}',
        '{"step": 1, "metrics": {"kid": {"value": NaN}}}',
        '{"step": 2, "metrics": {"kid": {"value": "5"}}}',
        '{"step": 3, "metrics": {"kid": 5}}',
        '{"step": 4, "metrics": 5}',
        '{"step": "5", "metrics": {"kid": {"value": 5}}}',
        '{"step": 6, "metrics": {"kid": {"value": 1' + "0" * 400 + "}}}",
        '{"step": 7, "metrics": {"kid": {"value": 4, "n": null, "low": "x"}}}',
        '{"step": 8, "metr',
    ]
    (folder / "curve.jsonl").write_text("\n".join(lines))
    assert [(point.step, point.value, point.n) for point in run_curve(read_run(folder), "kid")] == [
        (0, 5, None),
        (7, 4, None),
    ]
    reports.plot("curves", tmp_path)


def test_the_lines_are_those_that_a_run_writes(tmp_path):
    """A line of experiments.training.quality_curve."""
    folder = write(tmp_path, record())
    line = {"value": 98.6, "n": 4, "low": 35.3, "high": 215.5, "base": 1078.5, "extractor": "gpt-mini's own tokens"}
    (folder / "curve.jsonl").write_text(json.dumps({"step": 18, "seconds": 0.6, "metrics": {"kid": line}}) + "\n")
    (point,) = run_curve(read_run(folder), "kid")
    assert (point.step, point.value, point.low, point.high, point.n) == (18, 98.6, 35.3, 215.5, 4)


@pytest.mark.parametrize(("first", "scale"), [(900.0, "linear"), (90_000.0, "log")])
def test_the_frame_reaches_from_the_best_mean_to_where_the_curves_begin(tmp_path, first, scale):
    for seed in range(2):
        curve(write(tmp_path, record(seed=seed)), {0: 1e9, 10: first, 20: 320.0, 30: 310.0 + seed, 40: 300.0})
    panel = reports.plot("curves", tmp_path).axes[0]
    bottom, top = panel.get_ylim()
    assert bottom < 300 < first < top < 2 * first
    assert panel.get_yscale() == scale
