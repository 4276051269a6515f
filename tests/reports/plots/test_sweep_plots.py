"""Plots of sweeps: U-curves, held-out loss over log steps, learning against forgetting, maps by layer."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import reports
from reports.errors import ReportError
from reports.plots.cells import BOTTOM, ROW, TOP, mark_outside
from reports.plots.pareto import front
from reports.plots.style import new_figure, style_context
from reports.spectra import by_layer, layer_and_type
from tests.reports.sweeps.grids import RANKS, RATES, grid_record, write_grid
from tests.reports.synthetic import figure, record, write

numbers = st.floats(-100, 100)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12), st.booleans(), st.booleans())
def test_a_front_of_two_metrics_is_what_no_point_beats(points, lower, less):
    """Against brute force, for all four combinations of directions."""
    side, sign = 1 if less else -1, 1 if lower else -1
    flipped = [(side * x, sign * y) for x, y in points]

    def beaten(i: int) -> bool:
        return any(other[0] <= flipped[i][0] and other[1] <= flipped[i][1] and other != flipped[i] for other in flipped)

    chosen = front(points, lower, less)
    assert {points[i] for i in chosen} == {points[i] for i in range(len(points)) if not beaten(i)}


def valley(rank: float, rate: float) -> float:
    return 10 + abs(np.log10(rate) + 2) + rank / 100


def test_a_u_curve_rings_the_best_rate_of_each_rank(tmp_path):
    write_grid(tmp_path, valley)
    panel = reports.plot("u-curve", tmp_path).axes[0]
    rings = [line for line in panel.lines if line.get_markersize() == 10]
    assert [float(np.asarray(line.get_xdata())[0]) for line in rings] == [0.01] * len(RANKS)
    assert panel.get_xscale() == "log"
    assert [text.get_text() for text in reports.plot("u-curve", tmp_path).legends[0].get_texts()] == [
        f"rank {rank}" for rank in RANKS
    ]


def test_failed_and_far_values_are_marked_at_the_edge(tmp_path):
    outcomes: dict[tuple[float, float], float | None] = {(16, 0.1): None, (1, 0.1): 1e9}
    write_grid(tmp_path, lambda rank, rate: outcomes.get((rank, rate), valley(rank, rate)))
    panel = reports.plot("u-curve", tmp_path).axes[0]
    marks = {
        line.get_marker(): np.asarray(line.get_xdata()).tolist()
        for line in panel.lines
        if np.size(line.get_xdata()) and line.get_marker() in ("x", "^")
    }
    assert marks == {"x": [0.1], "^": [0.1]}


def test_an_interval_that_leaves_the_frame_of_a_u_curve_is_marked(tmp_path):
    write_grid(tmp_path, valley)
    for rate, spread in zip(RATES, (0.0, 20.0, 0.0), strict=True):  # a second seed: intervals are 12.7 errors wide
        write(tmp_path, grid_record(1, rate, valley(1, rate) + spread + 0.01, seed=1))
    panel = reports.plot("u-curve", tmp_path).axes[0]
    bottom, top = panel.get_ylim()
    marks = [line for line in panel.lines if line.get_marker() in ("^", "v") and line.get_markersize() == 4]
    assert sorted(tuple(np.asarray(line.get_xydata())[0]) for line in marks) == [(0.01, bottom), (0.01, top)]


def write_losses(runs) -> None:
    for rank in RANKS:
        for rate in RATES:
            folder = write(runs, grid_record(rank, rate, valley(rank, rate)))
            losses = {step: valley(rank, rate) / step**0.1 for step in (1, 10, 100)}
            lines = [{"step": step, "loss": loss, "validation_loss": loss} for step, loss in losses.items()]
            (folder / "steps.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_held_out_loss_has_a_thick_line_per_rank_at_its_best_rate(tmp_path):
    write_losses(tmp_path)
    panel = reports.plot("held-out", tmp_path).axes[0]
    thick = [line for line in panel.lines if line.get_linewidth() > 2]
    assert sorted(float(np.asarray(line.get_ydata())[0]) for line in thick) == [valley(rank, 0.01) for rank in RANKS]
    assert len({line.get_color() for line in thick}) == len(RANKS)
    assert len(panel.lines) == len(RANKS) * len(RATES)
    assert panel.get_xscale() == "log"


@pytest.fixture
def forgetful(tmp_path):
    """Learning and drift rise together, except for the rank 4, which forgets more than rank 16 and learns less."""
    for rank, kid, drift in ((1, 400.0, 0.1), (4, 350.0, 0.9), (16, 300.0, 0.5)):
        metrics = {"kid": figure(kid), "drift": figure(drift, base=0.0, unit="nats per token")}
        write(tmp_path, record("lora", rank, metrics=metrics))
    return tmp_path


def test_learning_against_forgetting_has_the_front_and_the_untuned_base(forgetful):
    (panel,) = reports.plot("forgetting", forgetful).axes
    (line,) = [line for line in panel.lines if line.get_drawstyle() == "steps-post"]
    assert np.asarray(line.get_xydata()).tolist() == [[0.1, 400.0], [0.5, 300.0]]
    (base,) = [line for line in panel.lines if line.get_marker() == "*"]
    assert np.asarray(base.get_xydata()).tolist() == [[0.0, 1486.0]]
    assert panel.get_xlabel() == "drift (nats per token)\nlower is better"


def test_any_metric_against_any_metric_or_cost(forgetful):
    (panel,) = reports.plot("pareto", forgetful, metric="drift", against="kid").axes
    assert (panel.get_xlabel(), panel.get_ylabel()) == (
        "kid (x1000)\nlower is better",
        "drift (nats per token)\nlower is better",
    )
    (panel,) = reports.plot("pareto", forgetful, against="memory_bytes").axes
    assert panel.get_xlabel() == "Peak memory"
    with pytest.raises(
        ReportError, match=r"no metric or a cost|has a metric or a cost 'drfit' \(did you mean 'drift'\?\)"
    ):
        reports.plot("pareto", forgetful, against="drfit")


def test_without_drift_one_sentence_says_what_there_is(tmp_path):
    write(tmp_path, record())
    with pytest.raises(
        ReportError, match=r"no run of 'drawings' has the metric 'drift'.*draws kid over any of clip, kid"
    ):
        reports.plot("forgetting", tmp_path)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("transformer.h.10.attn.c_attn:key", ("h.10", "attn.c_attn:key")),
        ("model.layers.0.self_attn.q_proj", ("layers.0", "self_attn.q_proj")),
        ("down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0", ("down_blocks.1", "attn1.to_out")),
        ("mid_block.resnets.1.conv1", ("mid_block", "resnets.conv1")),
        ("conv_in", ("other", "conv_in")),
    ],
)
def test_layer_and_type_of_a_name(key, place):
    assert layer_and_type(key) == place


def test_layers_are_in_the_order_of_their_numbers():
    keys = {f"h.{n}.mlp": float(n) for n in (10, 2, 0)} | {"a.wte": 7.0}
    assert [layer for layer, _ in by_layer(keys)] == ["h.0", "h.2", "h.10", "other"]


def write_update(runs, rank: int, ranks_of_layers: list[int], resemblance: list[float] | None = None) -> None:
    """A run with spectra: the update of layer i has so many equal singular values."""
    folder = write(runs, record("lora", rank))
    tensors, shapes = {}, {}
    for layer, count in enumerate(ranks_of_layers):
        key = f"model.layers.{layer}.mlp.up"
        tensors[f"{key}/values"] = np.array([1.0] * count + [1e-9] * (8 - count), np.float32)
        tensors[f"{key}/right"] = np.eye(8, dtype=np.float32)
        tensors[f"{key}/base_norms"] = np.ones(8, np.float32)
        if resemblance is not None:
            tensors[f"{key}/resemblance"] = np.array(resemblance, np.float32)
        shapes[key] = [8, 8]
    save_file(tensors, folder / "spectra.safetensors", {"shapes": json.dumps(shapes)})


def test_a_map_shows_the_rank_of_90_percent_of_the_energy_by_layer(tmp_path):
    write_update(tmp_path, 8, [1, 5, 8])
    panel = reports.plot("energy", tmp_path).axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["layers.0", "layers.1", "layers.2"]
    assert [text.get_text() for text in panel.texts] == ["1", "5", "8"]


def test_a_map_counts_the_intruder_dimensions_by_layer(tmp_path):
    write_update(tmp_path, 8, [2, 2], [0.1, 0.9, 0.49, 0.5, 1.0])
    panel = reports.plot("intruders", tmp_path).axes[0]
    assert [text.get_text() for text in panel.texts] == ["2", "2"]


def test_without_spectra_one_sentence_names_the_command(tmp_path):
    write(tmp_path, record())
    with pytest.raises(ReportError, match=r"holds spectra for this: `python -m experiments.truncate RUN`"):
        reports.plot("intruders", tmp_path)


def test_scaled_intruders_are_drawn_beside_the_run_itself(tmp_path):
    write(tmp_path, record("full", None, fingerprint="source", metrics={"kid": figure(300.0), "drift": figure(0.5)}))
    for scale, kid, drift in ((0.0, 320.0, 0.3), (0.5, 305.0, 0.4)):
        metrics = {"kid": figure(kid), "drift": figure(drift)}
        content = record("full-intruders", None, fingerprint=f"scaled-{scale}", metrics=metrics)
        content["config"]["adapter"]["scale"] = scale
        write(tmp_path, content | {"facts": {"intruders_of": "source"}})
    quality, forgotten = reports.plot("intruder-scales", tmp_path).axes
    assert np.asarray(quality.lines[0].get_xydata()).tolist() == [[0, 320], [0.5, 305], [1, 300]]
    assert np.asarray(forgotten.lines[0].get_xydata()).tolist() == [[0, 0.3], [0.5, 0.4], [1, 0.5]]
    write(tmp_path / "other", record())
    with pytest.raises(ReportError, match=r"--intruder-scales 0 0\.5` writes them"):
        reports.plot("intruder-scales", tmp_path / "other")


@pytest.mark.parametrize("kind", ["heatmap", "u-curve", "effects", "forgetting", "held-out"])
def test_no_two_texts_of_a_figure_overlap(tmp_path, kind):
    write_losses(tmp_path)
    if kind == "forgetting":
        for rank in RANKS:
            metrics = {"kid": figure(300.0 + rank), "drift": figure(rank / 10)}
            write(tmp_path, record("lora", rank, task="drawings", fingerprint=str(rank), metrics=metrics))
    plot = reports.plot(kind, tmp_path, "drawings", "kid" if kind == "forgetting" else None)
    title = plot.suptitle("drawings", x=0.01, ha="left", fontsize=11)
    plot.draw_without_rendering()
    boxes = [title.get_window_extent()]
    for panel in plot.axes:
        labels = [*panel.get_xticklabels(), *panel.get_yticklabels(), panel.xaxis.label, panel.yaxis.label]
        low, high = panel.get_window_extent().padded(1).get_points()
        boxes += [
            text.get_window_extent()
            for text in [*labels, *panel.texts]
            if text.get_text() and text.get_visible() and (text in panel.texts or _inside(text, low, high))
        ]
    assert [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])] == []


def _inside(text, low, high) -> bool:
    """Ticks beyond the panel's limits exist and are not drawn."""
    box = text.get_window_extent()
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    return low[0] <= x <= high[0] or low[1] <= y <= high[1]


def test_marks_at_one_place_lie_below_each_other_at_the_edge():
    with style_context():
        _, (panel,) = new_figure(1)
        panel.set_xlim(0, 10)
        for places in ([1, 2], [2, 3], [5], [2]):
            mark_outside(panel, places, "^", "red")
        mark_outside(panel, [2], "v", "red", at=BOTTOM)
    heights = [float(np.asarray(line.get_ydata())[0]) for line in panel.lines]
    assert heights == pytest.approx([TOP, TOP - ROW, TOP, TOP - 2 * ROW, BOTTOM])
    assert panel.get_legend_handles_labels() == ([], [])
