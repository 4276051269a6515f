"""Reports of learning-rate searches: where they are read from, the table, its refusals, and what the plots show."""

import json
import math

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from reports.__main__ import main
from reports.errors import ReportError
from reports.plots.cells import CHOSEN, FAILED
from reports.plots.rates import curves, draw_rates, heat_map, limits
from reports.rates import by_settings, edges, read_searches
from tests.reports.synthetic import record, write

RATES = [float(f"{1e-3 * 3 ** (k / 2):.4g}") for k in (-4, -2, -1, 0, 1, 2, 4)]


def outcome(best: float, fails_above: float = 1.0) -> dict:
    """A search whose loss is a parabola in log rate around `best`, and fails above a rate."""
    losses = {rate: 1 + math.log(rate / best) ** 2 if rate <= fails_above else None for rate in RATES}
    chosen = min(RATES, key=lambda rate: losses[rate] or math.inf)
    trials = [{"learning_rate": rate, "validation_loss": loss} for rate, loss in losses.items()]
    ways = {"steps": 300, "share": 1.0, "factor": 3.0, "chosen_by": "validation loss at the last step"}
    return {"chosen": chosen, "trials": trials} | ways


def search(size, best, settings=None, fails_above=1.0, **more) -> dict:
    entry = {"task": "e2e", "method": "lora", "size": size, "settings": settings or {}}
    return entry | outcome(best, fails_above) | more


@pytest.fixture
def file(tmp_path):
    full = search(None, 3e-4, method="full", task="e2e")
    searches = [search(16, 1e-3), search(1, 1e-3), search(4, 3e-3, {"alpha": "rank"}, 5e-3), full]
    (tmp_path / "rates.json").write_text(json.dumps({"searches": searches}))
    return tmp_path / "rates.json"


def rows_of(capsys) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("e2e  ")]


def test_the_table_has_a_row_per_search(file, capsys):
    main(["rates", str(file)])
    rows = rows_of(capsys)
    # (log sqrt(3))^2 = .302
    assert rows[1] == ["e2e", "lora", "1", "alpha", "default", "0.001", "1.000", "1.302", "1.302", "7", "yes"]
    assert rows[2] == ["e2e", "lora", "16", "alpha", "default", "0.001", "1.000", "1.302", "1.302", "7", "yes"]
    assert rows[3] == ["e2e", "lora", "4", "alpha", "rank", "0.003", "1.000", "1.302", "failed", "7", "yes"]


def test_settings_with_the_same_losses_are_two_searches(tmp_path):
    """At rank 16, alpha = rank is alpha 16, the default."""
    searches = [search(16, 1e-3), search(16, 1e-3, {"alpha": "rank"}), search(16, 1e-3)]
    (tmp_path / "rates.json").write_text(json.dumps({"searches": searches}))
    assert [found.settings for found in read_searches([tmp_path / "rates.json"])] == [{}, {"alpha": "rank"}]


def test_a_rate_at_an_end_of_the_grid_is_named(tmp_path, capsys):
    (tmp_path / "rates.json").write_text(json.dumps({"searches": [search(4, 1e-2), search(8, 1e-5)]}))
    main(["rates", str(tmp_path / "rates.json")])
    assert [row[-2:] for row in rows_of(capsys)] == [["the", "highest"], ["the", "lowest"]]


def test_searches_of_a_runs_folder(tmp_path, capsys):
    """Runs with different seeds share one search, shown once; the two alpha conventions stay separate."""
    for alpha, best in ((16.0, 1e-3), ("rank", 3e-3)):
        for seed in (0, 1):
            content = record(size=4, seed=seed, search=outcome(best), task="e2e", fingerprint=f"{alpha}-{seed}")
            content["config"]["adapter"]["alpha"] = alpha
            content["config"]["train"]["learning_rate"] = best
            write(tmp_path, content)
    write(tmp_path, record("full", None, task="e2e"))  # no search
    main(["rates", str(tmp_path)])
    assert [row[:6] for row in rows_of(capsys)] == [
        ["e2e", "lora", "4", "alpha", "16", "0.001"],
        ["e2e", "lora", "4", "alpha", "rank", "0.003"],
    ]


def test_bases_of_one_task_are_told_apart(tmp_path):
    searches = [search(4, 1e-3, base_revision="a"), search(4, 1e-3, base_revision="b")]
    (tmp_path / "rates.json").write_text(json.dumps({"searches": searches}))
    files = list(draw_rates(read_searches([tmp_path / "rates.json"]), tmp_path / "plots"))
    assert len({path.name for path in files}) == 2 * 2 * 2  # bases, plots, formats


@pytest.mark.filterwarnings("error")  # matplotlib warns if there is no room for the axes
def test_the_plots_are_written(file, tmp_path, capsys):
    main(["rates", str(file), "--output", str(tmp_path / "plots")])
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        f"{name}-e2e.{kind}" for name in ("rates", "rate-curves") for kind in ("svg", "png")
    }
    text = (tmp_path / "plots" / "rates-e2e.svg").read_text()
    for words in ("Framed: the chosen rate", "do not tell losses above", "lora, alpha default", "lora, alpha rank"):
        assert words in text


def test_the_heat_map_frames_the_chosen_rate_and_greys_what_failed(file):
    searches = read_searches([file])
    figure = heat_map(searches)
    for panel, sizes, failed in zip(figure.axes, ((None,), (1, 16), (4,)), (0, 0, 1), strict=False):
        cells = [patch for patch in panel.patches if isinstance(patch, Rectangle) and patch.get_fill()]
        frames = [patch for patch in panel.patches if isinstance(patch, Rectangle) and not patch.get_fill()]
        assert (len(cells), len(frames)) == (7 * len(sizes), len(sizes))
        assert {to_hex(frame.get_edgecolor()) for frame in frames} == {CHOSEN.lower()}
        assert sum(to_hex(cell.get_facecolor()) == FAILED for cell in cells) == failed
        assert [label.get_text() for label in panel.get_yticklabels()] == [str(size or "") for size in sizes]
        chosen = next(group for group in by_settings(searches).values() if group[0].size == sizes[0])
        for frame, each in zip(frames, chosen, strict=True):
            assert frame.get_x() < each.chosen < frame.get_x() + frame.get_width()


def test_the_panels_of_a_task_have_the_same_axes(file):
    for figure in (heat_map(read_searches([file])), curves(read_searches([file]))):
        assert len({panel.get_xlim() for panel in figure.axes[:3]}) == 1
        assert {panel.get_xscale() for panel in figure.axes[:3]} == {"log"}
    assert len({panel.get_ylim() for panel in figure.axes}) == 1


def test_every_trial_has_a_mark_in_the_curves(file):
    """A point, or a triangle or a cross at the upper edge; settings of one method lie side by side."""
    panels = curves(read_searches([file])).axes
    assert [panel.get_title() for panel in panels] == ["lora, alpha default", "lora, alpha rank", "full"]
    for panel, searches in zip(panels, (2, 1, 1), strict=True):
        top = panel.get_ylim()[1]
        points = sum((np.array(line.get_ydata()) <= top).sum() for line in panel.lines if line.get_linestyle() == "-")
        edge = [line for line in panel.lines if line.get_marker() in ("^", "x") and line.get_linestyle() == "None"]
        assert points + sum(np.size(line.get_xdata()) for line in edge) == 7 * searches


def test_the_scale_shows_every_chosen_rate(tmp_path):
    bad = search(1, 1e-3)
    bad["trials"] = [trial | {"validation_loss": 50 + trial["validation_loss"]} for trial in bad["trials"]]
    (tmp_path / "rates.json").write_text(json.dumps({"searches": [search(16, 1e-3), search(4, 1e-3), bad]}))
    assert limits(read_searches([tmp_path / "rates.json"])) == pytest.approx((1, 51))


def test_cells_meet_half_way_on_a_log_axis():
    assert edges([1e-4, 1e-2]) == pytest.approx([1e-5, 1e-3, 1e-1])
    assert edges([3.0]) == [1.5, 6.0]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"searches": [{}]}',
        '{"runs": []}',
        '{"searches": []}',
        json.dumps({"searches": [search(4, 1e-3) | {"chosen": 0.5}]}),  # not among the trials
    ],
)
def test_a_file_without_searches_is_one_sentence(tmp_path, content):
    (tmp_path / "wrong.json").write_text(content)
    with pytest.raises(ReportError, match="search") as error:
        main(["rates", str(tmp_path / "wrong.json")])
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("runs", [[], [record()]])
def test_runs_without_a_search_are_one_sentence(tmp_path, runs):
    for run in runs:
        write(tmp_path, run)
    with pytest.raises(ReportError, match=r"no search of learning rates in .*--search-lr 5"):
        main(["rates", str(tmp_path)])
