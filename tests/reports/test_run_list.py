"""Short names of runs: unique in their task, and short."""

from __future__ import annotations

import pytest

from reports.__main__ import main
from reports.errors import ReportError
from reports.records import collect
from reports.text.run_list import short_names
from tests.reports.synthetic import record, study, write


def test_a_name_is_method_size_and_seed(tmp_path, capsys):
    study(tmp_path)
    main(["list", "--runs", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[1] for line in lines if " finished " in line]
    assert names == [*(f"full-s{s}" for s in range(3)), *(f"lora-{r}-s{s}" for r in (1, 8) for s in range(3))]
    failed = next(line for line in lines if " failed " in line and "lora-8-s3" in line)
    assert "out of memory" in failed
    assert any(" unfinished " in line and "lora/unfinished" in line for line in lines)
    assert str(tmp_path / "drawings" / "lora" / "lora-1-0") in next(line for line in lines if "lora-1-s0" in line)


def test_runs_that_differ_elsewhere_get_the_start_of_their_fingerprint(tmp_path):
    for fingerprint in ("aaaa11112222", "aaaa11113333", "bbbb11112222"):
        write(tmp_path, record(fingerprint=fingerprint))
    runs = collect(tmp_path).finished
    assert short_names(runs) == ["lora-8-s0-aaaa11112", "lora-8-s0-aaaa11113", "lora-8-s0-bbbb"]


def test_an_unknown_task_is_one_sentence(tmp_path):
    write(tmp_path, record())
    with pytest.raises(ReportError, match="no run of 'x' in"):
        main(["list", "--runs", str(tmp_path), "--tasks", "x"])
