"""Plots: the files written, reproducible bytes, the Pareto front, and how lines are split."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reports.__main__ import main
from reports.errors import ReportError
from reports.plots.curves import size_curves
from reports.plots.pareto import front
from reports.plots.sample_grid import montage
from reports.plots.style import slug
from reports.records import collect
from reports.run_groups import RunGroup, plot_lines
from reports.schema import Size
from reports.tables import build
from tests.reports.synthetic import figure, record, samples, write, write_items

numbers = st.floats(-100, 100)


def test_front_by_hand():
    points = [(1, 9.0), (2, 5.0), (3, 6.0), (4, 5.0), (5, 1.0), (1, 8.0)]
    assert front(points, lower_is_better=True) == [5, 1, 4]
    assert front(points, lower_is_better=False) == [0]


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12), st.booleans())
def test_front_is_what_no_point_beats(points, lower):
    sign = 1 if lower else -1
    chosen = front(points, lower)
    for i, (cost, quality) in enumerate(points):
        beaten = any(c <= cost and sign * q <= sign * quality and (c, q) != (cost, quality) for c, q in points)
        assert beaten or (cost, quality) in [points[j] for j in chosen]
        assert not (beaten and i in chosen)


def groups_of(*runs: tuple[float, dict]) -> list[RunGroup]:
    return [RunGroup("subspace", Size("dimension", size), settings, (), ()) for size, settings in runs]


def test_a_learning_rate_that_follows_the_size_splits_no_line():
    groups = groups_of((10, {"train.learning_rate": 0.3}), (100, {"train.learning_rate": 0.1}))
    assert {name: len(line) for name, line in plot_lines(groups).items()} == {"subspace": 2}


def test_lines_are_split_by_the_fewest_settings():
    def at(size: float, rate: float, scales: bool) -> tuple[float, dict]:
        return size, {"train.learning_rate": rate, "adapter.scales": scales}

    groups = groups_of(at(100, 0.1, True), at(10, 0.3, False), at(100, 0.11, False), at(20, 0.2, True))
    sizes = {name: [group.size.value for group in line if group.size] for name, line in plot_lines(groups).items()}
    assert sizes == {"subspace (scales false)": [10, 100], "subspace (scales true)": [20, 100]}


def test_two_learning_rates_at_one_size_split_the_line():
    groups = groups_of((10, {"train.learning_rate": 0.3}), (10, {"train.learning_rate": 0.1}))
    assert set(plot_lines(groups)) == {"subspace (learning_rate 0.1)", "subspace (learning_rate 0.3)"}


@pytest.mark.parametrize("rates", [1, 8])
def test_legends_overlap_neither_the_title_nor_the_edge(tmp_path, rates):
    for size in (1, 64):
        for number in range(rates):
            content = record("lora", size, 0, fingerprint=f"{size}-{number}")
            content["config"]["train"]["learning_rate"] = 0.001 * (number + 1)
            write(tmp_path, content)
    plot = size_curves(build(collect(tmp_path), "drawings").rows, "kid")
    assert plot is not None
    title = plot.suptitle("drawings", x=0.01, ha="left")
    plot.draw_without_rendering()
    boxes = [
        legend.get_window_extent() for legend in [*plot.legends, *(axes.get_legend() for axes in plot.axes)] if legend
    ]
    assert boxes
    for box in boxes:
        assert not box.overlaps(title.get_window_extent())
        assert box.x0 >= 0
        assert box.x1 <= plot.bbox.x1


@pytest.fixture
def runs(tmp_path):
    metrics = {"kid": figure(300.0, low=290.0, high=310.0)}
    for method, size in (("lora", 1), ("lora", 8), ("full", None)):
        run = write(tmp_path / "runs", record(method, size, 0, metrics=metrics))
        lines = [json.dumps({"step": step, "loss": 1 / step, "validation_loss": None}) for step in range(1, 40)]
        (run / "steps.jsonl").write_text("\n".join(lines))
        write_items(run, [1.0, 2.0], ["a $x^ creature", "two"])
        samples(run, 2)
    write(tmp_path / "runs", record("lo$ra_{", 8, 0, fingerprint="tex", metrics=metrics))
    return tmp_path / "runs"


@pytest.fixture
def rows(runs):
    return build(collect(runs), "drawings").rows


def test_plots_are_reproducible(runs, tmp_path, capsys):
    for out in ("one", "two"):
        main(["plots", "--runs", str(runs), "--output", str(tmp_path / out)])
    names = sorted(path.name for path in (tmp_path / "one" / "drawings").iterdir())
    curves = [f"{kind}-{metric}" for kind in ("pareto", "size") for metric in ("kid",)]
    assert names == sorted(
        [f"{name}.{kind}" for name in ["loss", *curves] for kind in ("svg", "png")] + ["samples.png"]
    )
    for name in names:
        first, second = ((tmp_path / out / "drawings" / name).read_bytes() for out in ("one", "two"))
        assert first == second, name


def test_sample_grid_shows_the_pictures(rows, tmp_path):
    montage(rows, tmp_path / "samples.png")
    with Image.open(tmp_path / "samples.png") as grid:
        colours = {colour for _, colour in grid.getcolors(1 << 20) or []}
    assert {(10, 0, 200), (20, 0, 200)} <= colours  # the colours of the two samples


def test_a_broken_picture_is_left_blank(runs, rows, tmp_path):
    for path in runs.glob("*/*/*/samples/0.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\n no")
    assert montage(rows, tmp_path / "samples.png") is not None


def test_without_finished_runs_there_is_nothing_to_draw(tmp_path):
    write(tmp_path, record(status="failed", reason="diverged", metrics={}, primary_metric=None))
    with pytest.raises(ReportError, match="nothing to draw"):
        main(["plots", "--runs", str(tmp_path), "--output", str(tmp_path / "out")])


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", "..", "ä", "x" * 300])
def test_file_names_stay_in_their_folder(name):
    assert slug(name) not in ("", ".", "..")
    assert "/" not in slug(name)
    assert len(slug(name)) < 80
    assert slug("sd-pokemon") == "sd-pokemon"
