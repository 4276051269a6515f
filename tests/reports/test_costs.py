"""The cost table: a small one checked by hand, its formats, and the warnings that it must give."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from reports.__main__ import main
from reports.costs.table import build_cost_table
from reports.errors import ReportError
from reports.plots.costs import cost_bars
from reports.plots.style import style_context
from reports.text.costs import labels, render
from tests.reports.synthetic import record, write


def costs(method: str, size: float | None = 8, mergeable: bool = True, **fields: Any) -> dict[str, Any]:
    """A cost record as `experiments.costs` writes it."""
    ratio = {"median": 1.25, "low": 1.2, "high": 1.5, "n": 40}
    run = record(method, size)
    shared = (
        "schema",
        "task",
        "method",
        "fingerprint",
        "size",
        "config",
        "parameters",
        "adapter_bytes",
        "device",
        "git",
    )
    return {
        **{name: run[name] for name in shared},
        "memory": {"peak_bytes": 3_000_000, "how": "tracked", "categories": {"weights": 2_000_000, "gradients": 5_000}},
        "flops": {"forward": 100, "backward": 200, "optimizer": 30, "total": 330, "how": "counted"},
        "throughput": {
            **{"step_seconds": 0.5, "low": 0.4, "high": 0.6, "n": 20},
            **{"samples_per_second": 16.0, "tokens_per_second": None, "share_of_peak": 0.25},
            "peak": {"flops_per_second": 1e9, "how": "best of 10 products"},
        },
        "communication": {"predicted_bytes": 32_000, "measured_bytes": 32_000.0, "how": "counted by a hook"},
        "inference": {
            **{"items": 1, "base_seconds": 0.1, "unmerged_seconds": 0.125, "unmerged": ratio, "control": ratio},
            "merged_seconds": 0.1 if mergeable else None,
            "merged": {"median": 1.001, "low": 0.99, "high": 1.01, "n": 40} if mergeable else None,
            "largest_difference": 1e-5 if mergeable else None,
            "relative_difference": 1e-6 if mergeable else None,
        },
        "switch": {"bytes": 32_000, "seconds": 0.0005, "low": 0.0004, "high": 0.002, "n": 40},
        "mixed_batch": {
            **{"items": 4, "adapters": 4, "one_by_one_seconds": 0.5, "one_by_one": ratio},
            "seconds": 0.2 if mergeable else None,
            "ratio": ratio if mergeable else None,
        },
        "facts": {"positions_left": 240},
    } | fields


def write_costs(runs: Path, content: dict[str, Any]) -> None:
    folder = runs / content["task"] / content["method"] / content["fingerprint"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "costs.json").write_text(json.dumps(content))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One method with a cost record and a run, one with a cost record only, one with runs only."""
    write_costs(tmp_path, costs("lora"))
    write(tmp_path, record("lora", 8, parameters={"trainable": 7, "total": 8}))
    write_costs(tmp_path, costs("prefix", 4, mergeable=False))
    for seed, size in enumerate((1000, 3000)):
        write(tmp_path, record("full", None, seed, adapter_bytes=size))
    return tmp_path


def rows(runs: Path) -> dict[str, dict[str, str]]:
    return {
        row["method"]: row for row in csv.DictReader(io.StringIO(render(build_cost_table(runs, "drawings"), "csv")))
    }


def test_csv_has_one_row_per_method_with_every_number(runs):
    table = rows(runs)
    assert list(table) == ["full", "lora", "prefix"]
    lora = table["lora"]
    assert (lora["size_field"], lora["size"], lora["runs"]) == ("rank", "8.0", "1")
    assert [float(lora[f"unmerged{end}"]) for end in ("", ".low", ".high")] == [1.25, 1.2, 1.5]
    assert [float(lora[f"step_seconds{end}"]) for end in ("", ".low", ".high")] == [0.5, 0.4, 0.6]
    assert (float(lora["memory_weights"]), float(lora["memory_gradients"])) == (2e6, 5e3)
    assert (float(lora["flops"]), float(lora["sent_bytes"]), float(lora["positions_left"])) == (330, 32_000, 240)
    assert "tokens_per_second" not in lora  # absent from every record


def test_the_cost_record_takes_precedence_and_runs_are_averaged(runs):
    table = rows(runs)
    assert float(table["lora"]["parameters"]) == 8000  # the run records 7
    assert float(table["full"]["adapter_bytes"]) == 2000
    assert table["full"]["unmerged"] == ""


def test_unsupported_measurements_are_marked(runs):
    table = rows(runs)
    assert table["prefix"]["merged"] == table["prefix"]["mixed"] == "unsupported"
    assert float(table["prefix"]["one_by_one"]) == 1.25


@pytest.mark.parametrize("form", ["terminal", "md", "latex"])
def test_every_format_has_the_figures_and_how_they_were_measured(runs, capsys, form):
    main(["costs", "drawings", "--runs", str(runs), "--format", form])
    text = " ".join(capsys.readouterr().out.split())
    expected = ["1.250 [1.200, 1.500]", "1.001 [0.990, 1.010]", "330", "unsupported", "0.5 ms [0.4 ms, 2 ms]", "2 MB"]
    expected += ["counted by a hook", "best of 10 products", "40 interleaved rounds", "2 cost records, and 2 runs"]
    assert [part for part in expected if part not in text] == []


def test_mixed_devices_and_unreadable_records_are_reported(runs):
    write_costs(runs, costs("adapter", 2, device="cuda"))
    broken = runs / "drawings" / "lora" / "broken"
    broken.mkdir()
    (broken / "costs.json").write_text('{"schema": 1, "task": "drawings"')
    text = render(build_cost_table(runs, "drawings"), "md")
    assert "this mixes 2 devices: cpu (4), cuda (1)" in text
    assert "broken/costs.json: not a cost record" in text


def test_rows_that_differ_in_other_adapter_settings_name_them(tmp_path):
    for targets in ("attention", "all"):
        content = costs("lora", fingerprint=targets)
        content["config"]["adapter"]["targets"] = targets
        write_costs(tmp_path, content)
    write_costs(tmp_path, costs("lora", 4))
    assert labels(build_cost_table(tmp_path, "drawings").rows) == [
        "lora 4",
        "lora 8 (targets all)",
        "lora 8 (targets attention)",
    ]


def test_cost_records_need_no_runs(tmp_path, capsys):
    write_costs(tmp_path, costs("lora"))
    main(["costs", "drawings", "--runs", str(tmp_path), "--output", str(tmp_path / "plots")])
    assert (tmp_path / "plots" / "costs.svg").exists()
    assert "lora 8" in capsys.readouterr().out


def test_a_task_without_costs_is_one_sentence(tmp_path):
    with pytest.raises(ReportError, match=re.escape("run `python -m experiments.costs drawings --runs")):
        main(["costs", "drawings", "--runs", str(tmp_path)])


@pytest.mark.parametrize("count", [1, 12])
def test_the_legends_of_the_bars_lie_just_below_the_tick_labels(tmp_path, count):
    for size in range(1, count + 1):
        write_costs(tmp_path, costs("lora", size))
    with style_context():
        plot = cost_bars(build_cost_table(tmp_path, "drawings"))
        assert plot is not None
        plot.draw_without_rendering()
    legends = [(panel, legend) for panel in plot.axes if (legend := panel.get_legend())]
    assert len(legends) == 3
    for panel, legend in legends:
        box = legend.get_window_extent()
        ticks = [tick.get_window_extent() for tick in panel.get_xticklabels() if tick.get_text()]
        assert not [tick for tick in ticks if tick.overlaps(box)]
        assert min(tick.y0 for tick in ticks) - box.y1 < 0.02 * plot.bbox.width


def test_cost_plots_are_reproducible(runs, tmp_path, capsys):
    for out in ("one", "two"):
        main(["plots", "--runs", str(runs), "--output", str(tmp_path / out)])
    for kind in ("svg", "png"):
        first, second = ((tmp_path / out / "drawings" / f"costs.{kind}").read_bytes() for out in ("one", "two"))
        assert first == second
