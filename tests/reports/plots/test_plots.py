"""Plots: the files written, reproducible bytes, the Pareto front, and how lines are split."""

from __future__ import annotations

import io
import json
import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.text import Annotation
from PIL import Image

import reports
from reports.__main__ import main
from reports.errors import ReportError
from reports.page.gallery import gallery_rows
from reports.plots.curves import labelled_sizes, size_curves
from reports.plots.loss import loss_curves
from reports.plots.pareto import forgetting, front
from reports.plots.point_labels import label_key
from reports.plots.sample_grid import CELL, LABEL, LINE, montage
from reports.plots.style import NotebookFigure, label_levels, new_figure, slug, style_context
from reports.records import collect
from reports.run_groups import RunGroup, distinct_label, plot_lines
from reports.schema import Size
from reports.tables import build
from reports.text import verdicts
from tests.reports.synthetic import curve, figure, record, samples, steps, write, write_items

numbers = st.floats(-100, 100)


@pytest.mark.parametrize(
    ("sizes", "labelled"),
    [
        ([1, 2, 3, 4, 6, 8, 16], [1, 2, 4, 8, 16]),
        ([1, 2, 3, 4, 6, 8, 10], [1, 2, 4, 10]),
        ([10, 11], [10, 11]),
        ([7], [7]),
    ],
)
def test_sizes_between_are_labelled_where_there_is_room(sizes, labelled):
    assert labelled_sizes(sizes) == labelled


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
    plotted = size_curves(build(collect(tmp_path), "drawings").rows, "kid")
    assert plotted is not None
    plot, _ = plotted
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


def overlapping(boxes) -> list:
    return [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def drawn(figure):
    figure.draw_without_rendering()
    return figure


def test_every_point_of_a_pareto_plot_has_a_label_of_its_own(tmp_path):
    for rank in (1, 4, 16, 64):
        for method in ("lora", "dora"):
            write(tmp_path, record(method, rank, 0, 400 - rank - 3 * len(method)))
    plot = drawn(reports.plot("pareto", tmp_path))
    for panel in (axes for axes in plot.axes if axes.get_visible()):
        labels = [child for child in panel.get_children() if isinstance(child, Annotation)]
        assert sorted(label.get_text() for label in labels) == sorted(["1", "4", "16", "64"] * 2)
    boxes = [text.get_window_extent() for text in plot.axes[0].texts]
    assert not overlapping(boxes)


def test_points_that_share_method_and_size_are_numbered_and_listed(tmp_path):
    for number in range(3):
        content = record("lora", 8, 0, 300 + 20 * number, fingerprint=str(number))
        content["config"]["train"]["learning_rate"] = 0.001 * (number + 1)
        write(tmp_path, content)
    rows = build(collect(tmp_path), "drawings").rows
    names = ", ".join(label_key(rows)[:-1].removeprefix("Points: ").split("; "))
    assert names == "1 lora 8 (learning_rate 0.001), 2 lora 8 (learning_rate 0.002), 3 lora 8 (learning_rate 0.003)"
    assert [text.get_text() for text in reports.plot("pareto", tmp_path).axes[0].texts] == ["1", "2", "3"]


METHODS = ("adalora", "bottleneck", "dora", "ia3", "loha", "lokr", "lora", "pissa", "rslora", "vera")


@pytest.mark.parametrize("kind", ["rank", "pareto", "loss", "held-out", "curves"])
def test_ten_methods_have_ten_looks(tmp_path, kind):
    for number, method in enumerate(METHODS):
        for rank in (1, 8):
            run = write(tmp_path, record(method, rank, 0, 300 + 10 * number - rank))
            steps(run, 30, scale=number + rank)
            curve(run, {0: 1486.0, 10: 400.0 - rank, 20: 310.0 + number})
    plot = drawn(reports.plot(kind, tmp_path))
    legend = plot.legends[0] if plot.legends else plot.axes[0].get_legend()
    assert legend is not None
    looks = {
        text.get_text(): (to_rgb(line.get_color()), line.get_linestyle(), line.get_marker())
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert {name.split()[0] for name in looks} - {"rank"} == set(METHODS)
    assert len(set(looks.values())) == len(looks)


def test_more_methods_than_looks_are_said(tmp_path):
    for number in range(15):
        steps(write(tmp_path, record(f"method-{number}", 8)), 30)
    plotted = loss_curves(build(collect(tmp_path), "drawings").rows)
    assert plotted is not None
    assert not plotted[0].legends
    assert plotted[1].startswith("The lines are too many for a legend")


def test_a_label_has_the_fewest_settings_that_tell_groups_apart():
    def group(method: str, **settings) -> RunGroup:
        return RunGroup(method, Size("rank", 8), {f"train.{name}": value for name, value in settings.items()}, (), ())

    groups = [group("lora", steps=1, decay=0), group("lora", steps=2, decay=0), group("full", steps=3, decay=5)]
    assert [distinct_label(each, groups) for each in groups] == ["lora 8 (steps 1)", "lora 8 (steps 2)", "full 8"]


@pytest.mark.filterwarnings("error")  # matplotlib warns if there is no room for the panel
def test_long_labels_leave_room_for_the_bars(tmp_path):
    for number in range(4):
        metrics = {"bleu": figure(60.0, better="higher", unit="%")}
        content = record("lora", 8, fingerprint=str(number), metrics=metrics, primary_metric="bleu")
        content["config"]["adapter"]["targets"] = [f"a.name.of.a.module.{number}.{part}" for part in range(6)]
        write(tmp_path, content)
    plot = drawn(reports.plot("score", tmp_path))
    assert plot.axes[0].get_window_extent().width > 0.4 * plot.bbox.width


def test_the_note_below_a_plot_names_the_first_verdicts(tmp_path):
    for rank in range(1, 21):
        write(tmp_path, record("lora", rank, 0, 300 + rank))
    line = verdicts.on_one_line(build(collect(tmp_path), "drawings"), "kid")
    assert len(line.split("; ")) == verdicts.MOST_NAMED + 1
    assert line.endswith(f"; {19 - verdicts.MOST_NAMED} more in the table.")


def test_rates_are_in_the_order_of_their_numbers(tmp_path):
    for rank in (1, 8):
        for rate in (0.02, 0.003, 0.001):
            content = record("lora", rank, 0, 300 + rate, fingerprint=f"{rank}-{rate}")
            content["config"]["train"]["learning_rate"] = rate
            write(tmp_path, content)
    lines = [line for line in reports.plot("rank", tmp_path).axes[0].lines if str(line.get_label())[0] != "_"]
    names = [f"lora (learning_rate {rate})" for rate in (0.001, 0.003, 0.02)]
    assert [line.get_label() for line in lines] == names
    assert list(plot_lines(build(collect(tmp_path), "drawings").rows)) == names


def test_a_methods_only_line_has_its_plain_name_though_methods_differ(tmp_path):
    for method, rank, rate in (("lora", 1, 0.001), ("lora", 8, 0.001), ("full", None, 0.0001)):
        content = record(method, rank, 0, fingerprint=f"{method}-{rank}")
        content["config"]["train"]["learning_rate"] = rate
        write(tmp_path, content)
    assert list(plot_lines(build(collect(tmp_path), "drawings").rows)) == ["full", "lora"]


def test_each_size_is_shown_at_the_rate_of_its_lowest_validation_loss(tmp_path):
    best = {1: 0.02, 8: 0.001}
    for rank in best:
        for rate in (0.001, 0.003, 0.02):
            metrics = {"kid": figure(300 + rank + rate), "validation_loss": figure(1.0 if rate == best[rank] else 2.0)}
            content = record("lora", rank, 0, metrics=metrics, fingerprint=f"{rank}-{rate}")
            content["config"]["train"]["learning_rate"] = rate
            write(tmp_path, content)
    plotted = size_curves(build(collect(tmp_path), "drawings").rows, "kid")
    assert plotted is not None
    (line,) = [line for line in plotted[0].axes[0].lines if line.get_label() == "lora"]
    assert np.asarray(line.get_xydata()).tolist() == [[1, 301.02], [8, 308.001]]
    assert plotted[1] == [
        "Of several learning rates, the one with most seeds, then the lowest validation loss, is shown."
    ]


def test_a_rank_among_pefts_options_is_the_size(tmp_path):
    variants = {"use_dora": True, "init_lora_weights": "pissa"}
    for name, value in variants.items():
        for rank in (1, 8):
            content = record("peft lora", None, 0, fingerprint=f"{name}-{rank}")
            options = {"r": rank, "lora_alpha": 2 * rank, name: value}
            content["config"]["adapter"] = {"name": "peft", "method": "lora", "options": options}
            write(tmp_path, content)
    lines = plot_lines(build(collect(tmp_path), "drawings").rows)
    assert {name: [group.size for group in line] for name, line in lines.items()} == {
        f"peft lora (options.{setting})": [Size("rank", 1), Size("rank", 8)]
        for setting in ("use_dora true", "init_lora_weights pissa")
    }


def test_a_diverged_run_does_not_flatten_the_losses(tmp_path):
    for seed in range(3):
        steps(write(tmp_path, record(seed=seed)), 40)
    failed = write(tmp_path, record(seed=3, status="failed", reason="diverged", metrics={}, primary_metric=None))
    steps(failed, 40, scale=1e9)
    panel = reports.plot("loss", tmp_path).axes[0]
    first = max(float(np.asarray(line.get_ydata())[0]) for line in panel.lines[:3])
    assert first <= panel.get_ylim()[1] < 2 * first
    (cross,) = [line for line in panel.lines if line.get_marker() == "x"]
    assert np.asarray(cross.get_xdata()).tolist() == [40]


def test_the_key_of_a_scatter_lists_the_points_in_it(tmp_path):
    """Groups without the metric on the horizontal axis have no point."""
    for number in range(4):
        metrics = {"kid": figure(300.0 + number)} | ({"drift": figure(0.1 * number)} if number > 1 else {})
        content = record("lora", 8, 0, fingerprint=str(number), metrics=metrics)
        content["config"]["train"]["learning_rate"] = 0.001 * (number + 1)
        write(tmp_path, content)
    plotted = forgetting(build(collect(tmp_path), "drawings").rows, "kid", "drawings")
    assert plotted is not None
    assert plotted[1] == ["Points: 1 lora 8 (learning_rate 0.003); 2 lora 8 (learning_rate 0.004)."]
    assert [text.get_text() for text in plotted[0].axes[0].texts] == ["1", "2"]


def test_a_label_of_a_level_covers_no_marker():
    with style_context():
        figure, (panel,) = new_figure(1)
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1)
        panel.plot([0.97, 0.5], [0.52, 0.52], "o")
        label_levels(panel, [("untuned base", 0.5)])
        drawn(figure)
        box = panel.texts[0].get_window_extent()
    assert not [xy for xy in panel.transData.transform([(0.97, 0.52), (0.5, 0.52)]) if box.contains(*xy)]


def test_ranks_and_rates_are_told_apart_in_loss_plots(tmp_path):
    for rank in (1, 8):
        for rate in (0.001, 0.01):
            content = record("lora", rank, 0, fingerprint=f"{rank}-{rate}")
            content["config"]["train"]["learning_rate"] = rate
            steps(write(tmp_path, content), 60, scale=rank + 100 * rate)
    panel = reports.plot("loss", tmp_path).axes[0]
    looks = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in panel.lines}
    assert set(looks) == {f"lora {rank} (learning_rate {rate})" for rank in (1, 8) for rate in (0.001, 0.01)}
    assert len(set(looks.values())) == 4
    light, dark = (sum(to_rgb(looks[f"lora {rank} (learning_rate 0.001)"][0])) for rank in (1, 8))
    assert light > dark


def test_an_interval_that_leaves_the_frame_is_marked(tmp_path):
    for size, spread in ((1, 1.0), (8, 60.0)):
        for seed in (0, 1):  # two seeds: the interval is 12.7 standard errors wide on each side
            write(tmp_path, record("lora", size, seed, 300 - size + spread * seed))
    panel = reports.plot("rank", tmp_path).axes[0]
    marks = [line for line in panel.lines if line.get_marker() in ("^", "v")]
    bottom, top = panel.get_ylim()
    assert sorted(tuple(np.asarray(line.get_xydata())[0]) for line in marks) == [(8, bottom), (8, top)]


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_labels_of_levels_do_not_overlap(levels):
    with style_context():
        figure, (panel,) = new_figure(1)
        panel.set_ylim(-0.05, 1.05)
        label_levels(panel, [(f"level {number}", level) for number, level in enumerate(levels)])
        drawn(figure)
        assert not overlapping([text.get_window_extent() for text in panel.texts])


def test_only_the_kinds_that_are_asked_for_are_drawn(runs, tmp_path, capsys):
    main(["plots", "--runs", str(runs), "--output", str(tmp_path / "out"), "--only", "rank", "--metrics", "kid"])
    assert sorted(path.name for path in tmp_path.glob("out/*/*")) == ["size-kid.png", "size-kid.svg"]
    assert len(capsys.readouterr().out.splitlines()) == 3  # a line per file when it is written, and the count
    with pytest.raises(ReportError, match=r"unknown kind of plot 'ranks' \(did you mean 'rank'\?\): expected some of"):
        main(["plots", "--runs", str(runs), "--only", "ranks"])


@pytest.mark.parametrize("kind", ["rank", "pareto", "loss"])
def test_a_notebook_gets_a_figure(runs, kind):
    figure = reports.plot(kind, runs, "drawings", "kid" if kind != "loss" else None)
    assert isinstance(figure, NotebookFigure)
    with Image.open(io.BytesIO(figure._repr_png_())) as picture:  # what a notebook shows
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ranks",), "unknown kind of plot 'ranks' (did you mean 'rank'?): expected one of rank, pareto"),
        (("intrinsic",), "no 'intrinsic' plot of 'drawings'"),
        (("rank", "kdi"), "no run has the metric 'kdi' (did you mean 'kid'?)"),
    ],
)
def test_a_plot_that_cannot_be_drawn_is_one_sentence(runs, arguments, sentence):
    with pytest.raises(ReportError, match=re.escape(sentence)):
        reports.plot(arguments[0], runs, metric=arguments[1] if len(arguments) > 1 else None)


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


def test_sample_grid_begins_with_the_real_and_the_untuned_pictures(runs, rows, tmp_path):
    run = next(runs.glob("*/lora/*"))
    for kind in ("real", "base"):
        samples(run, 2, kind)
    montage(rows, tmp_path / "samples.png")
    with Image.open(tmp_path / "samples.png") as grid:
        first = [grid.getpixel((LABEL + CELL // 2, y)) for y in range(grid.height)]
    shown = list(dict.fromkeys(colour for colour in first if colour in [(10, 0, blue) for blue in (50, 100, 200)]))
    assert shown == [(10, 0, 50), (10, 0, 100), (10, 0, 200)]


def test_prompts_above_pictures_are_whole(tmp_path):
    heights = []
    for folder, words in (("short", 4), ("long", 80)):
        run = write(tmp_path / folder, record())
        write_items(run, [1.0], [" ".join(["creature"] * words)])
        samples(run, 1)
        path = montage(build(collect(tmp_path / folder), "drawings").rows, tmp_path / f"{folder}.png")
        with Image.open(str(path)) as grid:
            heights.append(grid.height)
    assert heights[1] - heights[0] == LINE * (40 - 2)  # two words per line


def test_rows_of_the_sample_grid_and_the_gallery_name_what_tells_them_apart(tmp_path):
    for rate in (0.001, 0.01):
        content = record("lora", 8, 0, fingerprint=str(rate))
        content["config"]["train"]["learning_rate"] = rate
        samples(write(tmp_path, content), 1)
    samples(write(tmp_path, record("lora", 4, 0)), 1)
    groups = build(collect(tmp_path), "drawings").rows
    labels = ["lora 4", "lora 8 (learning_rate 0.001)", "lora 8 (learning_rate 0.01)"]
    assert sorted(distinct_label(group, groups) for group in groups) == labels
    (row,) = gallery_rows(groups)
    assert [entry["label"] for entry in row["entries"]] == labels


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
