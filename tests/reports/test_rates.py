"""Reports of learning-rate searches: the table, its refusals, and what the heat map shows."""

import json
import math

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from reports.__main__ import main
from reports.errors import ReportError
from reports.plots.rates import FAILED, heat_map
from reports.plots.style import COLOURS
from reports.rates import edges, read_searches


def search(size, best, settings=None, fails_above=1.0, **more) -> dict:
    """A search whose loss is a parabola in log rate around `best`."""
    rates = [float(f"{1e-3 * 3 ** (k / 2):.4g}") for k in (-4, -2, -1, 0, 1, 2, 4)]
    losses = {rate: 1 + math.log(rate / best) ** 2 if rate <= fails_above else None for rate in rates}
    chosen = min(rates, key=lambda rate: losses[rate] or math.inf)
    trials = [{"learning_rate": rate, "validation_loss": loss} for rate, loss in losses.items()]
    entry = {"task": "e2e", "method": "lora", "size": size, "settings": settings or {}, "chosen": chosen}
    return entry | {"trials": trials, "steps": 300, "share": 1.0, "factor": 3.0, "chosen_by": "validation loss"} | more


@pytest.fixture
def file(tmp_path):
    searches = [search(16, 1e-3), search(1, 1e-3), search(4, 3e-3, {"alpha": "rank"}, 5e-3, edge="highest")]
    (tmp_path / "rates.json").write_text(json.dumps({"searches": searches}))
    return tmp_path / "rates.json"


def test_the_table_has_a_row_per_search(file, capsys):
    main(["rates", str(file)])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("e2e  ")]
    assert [row[1:4] for row in rows[:2]] == [["lora", "1", "0.001"], ["lora", "16", "0.001"]]
    assert rows[0][4:] == ["1", "1.302", "1.302", "7", "yes"]  # (log sqrt(3))^2 = .302
    assert rows[2][1:] == ["lora,", "alpha", "rank", "4", "0.003", "1", "1.302", "7", "no:", "the", "highest"]


def test_the_plots_are_written(file, tmp_path, capsys):
    main(["rates", str(file), "--output", str(tmp_path / "plots")])
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        f"{name}-e2e.{kind}" for name in ("rates", "rate-curves") for kind in ("svg", "png")
    }


def test_the_heat_map_frames_the_chosen_rate_and_greys_what_failed(file):
    figure = heat_map(read_searches([file]))
    for panel, sizes, failed in zip(figure.axes, ((1, 16), (4,)), (0, 1), strict=False):
        cells = [patch for patch in panel.patches if isinstance(patch, Rectangle) and patch.get_fill()]
        frames = [patch for patch in panel.patches if isinstance(patch, Rectangle) and not patch.get_fill()]
        assert (len(cells), len(frames)) == (7 * len(sizes), len(sizes))
        assert {to_hex(frame.get_edgecolor()) for frame in frames} == {COLOURS[1].lower()}
        assert sum(to_hex(cell.get_facecolor()) == FAILED for cell in cells) == failed
        assert [label.get_text() for label in panel.get_yticklabels()] == [str(size) for size in sizes]


def test_cells_meet_half_way_on_a_log_axis():
    assert edges([1e-4, 1e-2]) == pytest.approx([1e-5, 1e-3, 1e-1])
    assert edges([3.0]) == [1.5, 6.0]


@pytest.mark.parametrize("content", ["", "[]", '{"searches": [{}]}', '{"runs": []}', '{"searches": []}'])
def test_a_file_without_searches_is_one_sentence(tmp_path, content):
    (tmp_path / "wrong.json").write_text(content)
    with pytest.raises(ReportError, match="search"):
        main(["rates", str(tmp_path / "wrong.json")])
