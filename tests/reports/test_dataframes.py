"""`frame` and `table`: one row per run or group, numeric columns, the same numbers as the text table."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pandas as pd
import pytest
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from reports import ReportError, collect, frame, read_run, table
from reports.__main__ import main
from tests.reports.synthetic import figure, record, study, write


@pytest.fixture
def runs(tmp_path):
    study(tmp_path)
    return tmp_path


def test_one_row_per_run(runs):
    rows: Any = frame(runs)
    assert len(rows) == 10
    assert rows["status"].value_counts().to_dict() == {"finished": 9, "failed": 1}
    assert rows[rows["status"] == "failed"]["reason"].tolist() == ["out of memory"]
    assert rows.attrs["notes"][0] == "Runs: 9 finished, 1 failed, 1 unfinished, 0 unreadable."
    for row in rows.itertuples():
        assert read_run(row.folder).record.fingerprint == row.fingerprint


def test_every_kind_of_column(tmp_path):
    content = record("lora", 8, 3, metrics={"kid": figure(300.0, low=290.0, high=310.0, floor=-1.0)})
    content["config"]["adapter"]["targets"] = ["query", "value"]
    content["config"]["adapter"]["dora"] = False
    content["flops"] = {"forward": 1, "backward": 2, "optimizer": 3, "total": 6}
    write(tmp_path, content)
    row = frame(tmp_path).iloc[0]
    expected = {
        **{"task": "drawings", "method": "lora", "size_field": "rank", "size": 8.0, "seed": 3, "status": "finished"},
        **{"adapter.rank": 8, "adapter.dora": False, "task.base": "mini", "train.learning_rate": 0.005},
        **{"kid": 300.0, "kid.low": 290.0, "kid.high": 310.0, "kid.base": 1486.0, "kid.floor": -1.0, "kid.n": 500},
        **{"kid.extractor": "net-a", "kid.unit": "x1000", "kid.better": "lower"},
        **{"parameters.trainable": 8000, "adapter_bytes": 32_000, "memory.peak_bytes": 1_200_000_000},
        **{"flops.total": 6, "seconds.step_median": 0.25, "seconds.total": 169.0, "device": "cpu", "git.dirty": False},
    }
    assert {name: row[name] for name in expected} == expected
    assert json.loads(row["adapter.targets"]) == ["query", "value"]
    assert not {"adapter.name", "task.name", "train.seed"} & set(row.index)


def test_numbers_are_numeric_also_with_missing_values(runs):
    rows: Any = frame(runs)
    for name in ("size", "seed", "kid", "kid.low", "kid.n", "adapter.rank", "parameters.trainable", "seconds.train"):
        if name in rows:
            assert is_numeric_dtype(rows[name]), name
    assert is_bool_dtype(rows["git.dirty"])
    assert rows.loc[rows["method"] == "full", "adapter.rank"].isna().all()
    assert rows.groupby(["method", "adapter.rank"], dropna=False)["kid"].mean().tolist() == [301.0, 405.0, 300.0]


def test_one_task(runs):
    write(runs, record("lora", 4, task="texts"))
    assert len(frame(runs)) == 11
    assert frame(runs, "texts")["task"].tolist() == ["texts"]
    assert len(frame(collect(runs), "texts")) == 1


def test_an_unreadable_record_is_a_warning(runs):
    (runs / "drawings" / "lora" / "broken").mkdir()
    (runs / "drawings" / "lora" / "broken" / "result.json").write_text("{")
    with pytest.warns(UserWarning, match="1 records cannot be read"):
        assert len(frame(runs)) == 10


def test_table_has_the_numbers_of_the_csv(runs, capsys):
    rows: Any = table(runs, "drawings", by="rank", against="lora:1")
    main(["table", "drawings", "--runs", str(runs), "--by", "rank", "--against", "lora:1", "--format", "csv"])
    (runs / "table.csv").write_text(capsys.readouterr().out)
    csv: Any = pd.read_csv(runs / "table.csv")
    columns = ["method", "size", "kid", "kid.low", "kid.p_holm", "seeds"]
    pd.testing.assert_frame_equal(
        rows[columns],
        csv[columns],
        check_dtype=False,
    )
    assert rows["kid"].tolist() == [405.0, 300.0, 301.0]
    assert is_numeric_dtype(rows["kid.p_holm"])
    assert rows.attrs["notes"][0].startswith("lora: smallest rank not told apart from full in kid, or better: 8")
    assert rows.attrs["notes"][1].startswith("Runs: 9 finished")


def test_errors(tmp_path, runs):
    with pytest.raises(ReportError, match="no such folder"):
        frame(tmp_path / "none")
    with pytest.raises(ReportError, match="no finished or failed run of 'texts'"):
        table(runs, "texts")


def test_nothing_heavy_is_imported_before_it_is_used():
    program = "import sys, reports; assert reports.__all__; heavy = {'torch', 'pandas', 'numpy', 'matplotlib'}; "
    program += "assert not heavy & set(sys.modules); from reports import frame; assert 'torch' not in sys.modules; "
    program += "import reports; assert callable(reports.frame)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_lists_the_valid_ones():
    import reports

    with pytest.raises(AttributeError, match="it has Collection, ReportError"):
        reports.frames  # noqa: B018
