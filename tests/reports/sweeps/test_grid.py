"""Heat maps over two settings: the best cell in both directions, failed cells, other settings, what varied."""

from __future__ import annotations

import math

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

import reports
from reports.__main__ import main
from reports.errors import ReportError
from reports.plots.cells import CHOSEN, FAILED
from reports.records import collect
from reports.sweeps.grid import grids, shown_range
from reports.tables import build
from tests.reports.sweeps.grids import RANKS, RATES, grid_record, write_grid
from tests.reports.synthetic import write


def cells_of(panel) -> dict[tuple[str, str], Rectangle]:
    """The filled cells of a panel by the texts of its ticks."""
    columns, rows = (
        [label.get_text() for label in labels] for labels in (panel.get_xticklabels(), panel.get_yticklabels())
    )
    filled = [patch for patch in panel.patches if isinstance(patch, Rectangle) and patch.get_fill()]
    return {(columns[round(c.get_center()[0])], rows[round(c.get_center()[1])]): c for c in filled}


def framed(panel) -> tuple[str, str]:
    columns, rows = (
        [label.get_text() for label in labels] for labels in (panel.get_xticklabels(), panel.get_yticklabels())
    )
    (frame,) = [patch for patch in panel.patches if isinstance(patch, Rectangle) and not patch.get_fill()]
    assert to_hex(frame.get_edgecolor()).upper() == CHOSEN
    return columns[round(frame.get_center()[0])], rows[round(frame.get_center()[1])]


def bowl(rank: float, rate: float) -> float:
    """Lowest at rank 4 and rate .01, highest at rank 16 and rate .1."""
    return 10 + abs(math.log10(rate) + 2) * (1 + rank / 100) + abs(math.log2(rank) - 2) / 10 + rate


@pytest.mark.parametrize(("better", "best"), [("lower", ("0.01", "4")), ("higher", ("0.1", "16"))])
def test_the_best_cell_is_framed_in_both_directions(tmp_path, better, best):
    write_grid(tmp_path, bowl, better=better)
    (panel, _) = reports.plot("heatmap", tmp_path).axes
    assert framed(panel) == best
    values = {(f"{rate:g}", f"{rank:g}"): bowl(rank, rate) for rank in RANKS for rate in RATES}
    assert best == (min if better == "lower" else max)(values, key=lambda key: values[key])
    assert len(cells_of(panel)) == len(values)


def test_a_failed_run_is_a_marked_cell(tmp_path):
    write_grid(tmp_path, lambda rank, rate: None if (rank, rate) == (16, 0.1) else bowl(rank, rate))
    panel = reports.plot("heatmap", tmp_path).axes[0]
    assert to_hex(cells_of(panel)["0.1", "16"].get_facecolor()) == FAILED
    assert [text.get_text() for text in panel.texts].count("failed") == 1
    assert to_hex(cells_of(panel)["0.1", "4"].get_facecolor()) != FAILED


def test_a_cell_counts_the_failed_seeds_beside_its_mean(tmp_path):
    write_grid(tmp_path, bowl)
    write(tmp_path, grid_record(4, 0.01, None, seed=1))
    panel = reports.plot("heatmap", tmp_path).axes[0]
    assert "10\n1 failed" in [text.get_text() for text in panel.texts]


def test_a_cell_worse_than_the_untuned_base_is_hatched(tmp_path):
    """The base's figure is 1486 in these records."""
    write_grid(tmp_path, lambda rank, rate: 2000.0 if (rank, rate) == (1, 0.1) else bowl(rank, rate))
    hatched = [key for key, cell in cells_of(reports.plot("heatmap", tmp_path).axes[0]).items() if cell.get_hatch()]
    assert hatched == [("0.1", "1")]


def test_the_axes_can_be_named_in_either_order(tmp_path):
    write_grid(tmp_path, bowl)
    for over, best in (
        (["rank", "learning-rate"], ("4", "0.01")),
        (["train.learning_rate", "adapter.rank"], ("0.01", "4")),
    ):
        assert framed(reports.plot("heatmap", tmp_path, over=over).axes[0]) == best


def test_other_settings_make_panels_of_their_own(tmp_path):
    for alpha in (8, 16):
        for rank in RANKS:
            for rate in RATES:
                content = grid_record(rank, rate, bowl(rank, rate) + alpha, fingerprint=f"{alpha}-{rank}-{rate}")
                content["config"]["adapter"]["alpha"] = alpha
                write(tmp_path, content)
    found = grids(build(collect(tmp_path), "drawings"))
    assert sorted(grid.facet.settings for grid in found) == ["alpha 16", "alpha 8"]
    assert all(len(grid.cells) == 9 for grid in found)


def test_a_diverged_value_does_not_hide_the_others():
    assert shown_range([1.0, 1.2, 1.3, 1e9], lower=True) == (1.0, pytest.approx(2.2))
    assert shown_range([9.0, 8.0, 7.0, -1e9], lower=False) == (pytest.approx(1.0), 9.0)
    assert shown_range([1.0, 2.0], lower=True) == (1.0, 2.0)
    assert shown_range([1.0, 1.2, 1.3, 3.0], lower=True) == (1.0, 3.0), "not so far that it needs a mark at the edge"
    assert shown_range([5.0], lower=False)[0] < 5.0


def test_missing_settings_list_what_varied(tmp_path):
    for rank in RANKS:
        write(tmp_path, grid_record(rank, 0.01, 1.0 * rank))
    with pytest.raises(ReportError) as error:
        main(["plots", "--runs", str(tmp_path), "--output", str(tmp_path / "out"), "--only", "heatmap"])
    assert str(error.value) == (
        "the runs of 'drawings' do not differ in two settings within a method: they differ in adapter.rank (3 values)"
    )
    with pytest.raises(ReportError, match=r"do not differ in 'train.lr' .*; they differ in adapter.rank \(3 values\)"):
        reports.plot("heatmap", tmp_path, over=["train.lr", "rank"])
    with pytest.raises(ReportError, match="at most 2 settings for --over, not 3"):
        reports.plot("heatmap", tmp_path, over=["a", "b", "c"])


def test_runs_that_differ_in_the_seed_alone_differ_in_nothing(tmp_path):
    for seed in (0, 1):
        write(tmp_path, grid_record(4, 0.01, 1.0 + seed, seed))
    with pytest.raises(ReportError, match="they differ in nothing but the method and the seed"):
        reports.plot("u-curve", tmp_path)


def test_the_table_stars_the_best_cell_and_counts_failures(tmp_path, capsys):
    write_grid(tmp_path, lambda rank, rate: None if (rank, rate) == (16, 0.1) else bowl(rank, rate))
    main(["grid", "drawings", "--runs", str(tmp_path), "--over", "rank", "train.learning-rate"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["train.learning_rate", "\\", "adapter.rank", "1", "4", "16"]
    assert lines[3].split() == ["0.01", "10.21", "*10.01*", "10.21"]
    assert lines[4].split()[-3:] == ["1", "run", "failed"]
