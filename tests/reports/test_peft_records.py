"""Importing PEFT's records: a small one checked by hand, and all 94 if the shared data are present."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.errors import ReportError
from reports.plots.pareto import pareto
from reports.records import collect
from reports.tables import build

SHARED = Path(__file__).parents[3] / "shared" / "data" / "peft_method_comparison"


def peft_record(**train_info) -> dict:
    return {
        "run_info": {
            "experiment_name": "lora/llama-3.2-3B-rank32-dora",
            "total_time": 900.0,
            "error_msg": "",
            "train_config": {
                "model_id": "meta-llama/Llama-3.2-3B",
                "seed": 0,
                "max_steps": 500,
                "optimizer_kwargs": {"lr": 1e-4},
                "test_size": 4,
                "dino_model_id": "dinov2",
            },
            "peft_config": {"r": 32},
        },
        "train_info": {
            "status": "success",
            "train_time": 700.0,
            "num_trainable_params": 10,
            "num_total_params": 100,
            "accelerator_memory_max": 5000,
            "file_size": 40,
            "metrics": [
                {"step": 250, "train loss": 2.0, "train time": 50.0},
                {"step": 500, "train loss": 1.0, "train time": 100.0},
                {"step": 500, "train loss": 1.0, "test dino_similarity": 0.5, "drift": float("nan")},
            ],
        }
        | train_info,
        "meta_info": {
            "package_info": {"peft-version": "0.19", "peft-commit-hash": "abc"},
            "system_info": {"accelerator": "L40S"},
        },
    }


def load(tmp_path: Path, **train_info) -> tuple:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "lora.json").write_text(json.dumps(peft_record(**train_info)))
    main(["import-peft", str(tmp_path), "--runs", str(tmp_path / "runs")])
    collection = collect(tmp_path / "runs")
    return collection.finished, collection.failed


def test_a_record_by_hand(tmp_path, capsys):
    (run,), _ = load(tmp_path)
    record = run.record
    assert (record.task, record.method, record.seed, record.source) == (
        "peft-images",
        "lora",
        0,
        "peft-method-comparison",
    )
    assert record.size is not None
    assert (record.size.field, record.size.value) == ("rank", 32)
    assert record.config.adapter["variant"] == "rank32-dora"  # the name of the model is removed
    assert (record.seconds.train, record.seconds.step_median, record.seconds.total) == (
        150,
        (50 / 250 + 100 / 250) / 2,
        900,
    )
    assert record.metrics["dino_similarity"].n == 4
    assert list(record.metrics) == ["dino_similarity"]
    assert "drift is nan" in capsys.readouterr().err
    assert run.steps() == [{"step": 250, "loss": 2.0}, {"step": 500, "loss": 1.0}]


def test_a_failed_record_is_a_failed_run(tmp_path):
    finished, (run,) = load(tmp_path, status="canceled", metrics=[])
    assert not finished
    assert run.record.reason == "canceled"


@pytest.mark.parametrize("content", ["{}", "[", '{"run_info": {"experiment_name": "../x"}}'])
def test_other_files_are_refused_in_one_sentence(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ReportError) as error:
        main(["import-peft", str(tmp_path), "--runs", str(tmp_path / "runs")])
    assert len(str(error.value).splitlines()) == 1


def rows_of(runs: Path, capsys) -> dict[str, list[dict[str, str]]]:
    rows = {}
    for task in ("peft-MetaMathQA", "peft-image-gen"):
        main(["table", task, "--runs", str(runs), "--format", "csv"])
        rows[task] = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    return rows


@pytest.mark.skipif(not SHARED.exists(), reason=f"PEFT's published records are not at {SHARED}")
def test_all_94(tmp_path, capsys):
    main(["import-peft", str(SHARED), "--runs", str(tmp_path)])
    assert "94 records" in capsys.readouterr().out
    before = rows_of(tmp_path, capsys)
    assert sum(int(row["seeds"]) for rows in before.values() for row in rows) == 94
    collection = collect(tmp_path)
    for task, rows in before.items():
        table = build(collection, task)
        plotted = pareto(table.rows, table.metrics[0])
        assert plotted is not None
        marks = [line for line in plotted[0].axes[0].lines if line.get_linestyle() == "None"]
        assert len(marks) == len(rows), "one mark per group"

    removed = collection.finished[40]
    (removed.folder / "result.json").unlink()
    after = rows_of(tmp_path, capsys)
    first, second = (Counter(own_figures(row) for part in rows.values() for row in part) for rows in (before, after))
    assert second <= first
    assert (first - second).total() == 1


def own_figures(row: dict[str, str]) -> tuple[str, ...]:
    """The cells of a row that depend on no other row, unlike verdicts and differing settings."""
    return tuple(row[name] for name in ("method", "size", "seeds", "parameters", "memory_bytes", "total_seconds"))
