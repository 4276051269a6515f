"""The record reader: whatever lies in the folder, every run is a row, counted, or named with its sentence."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.errors import ReportError
from reports.records import collect, read_run
from tests.reports.synthetic import record, study, write

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_kinds_are_counted(tmp_path):
    study(tmp_path)
    found = collect(tmp_path)
    assert [len(x) for x in (found.finished, found.failed, found.unfinished, found.unreadable)] == [9, 1, 1, 0]
    assert found.failed[0].record.reason == "out of memory"


def test_deleting_a_record_removes_its_run_and_nothing_else(tmp_path):
    study(tmp_path)
    before = {run.folder for run in collect(tmp_path).finished}
    gone = sorted(before)[0]
    shutil.rmtree(gone)
    assert {run.folder for run in collect(tmp_path).finished} == before - {gone}


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=80) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_file_is_counted(tmp_path_factory, content):
    _check_counted(tmp_path_factory.mktemp("runs"), content)


@settings(max_examples=200, deadline=None)
@given(key=st.sampled_from(sorted(record())), value=json_values, cut=st.integers(0, 3000))
def test_a_record_with_any_value_anywhere_is_counted(tmp_path_factory, key, value, cut):
    runs = tmp_path_factory.mktemp("runs")
    _check_counted(runs, json.dumps(record() | {key: value}).encode())
    _check_counted(runs, json.dumps(record()).encode()[:cut])


def _check_counted(runs: Path, content: bytes) -> None:
    (folder := runs / "drawings" / "lora" / "x").mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_bytes(content)
    found = collect(runs)
    assert len(found.finished) + len(found.failed) + len(found.unreadable) == 1
    for _, why in found.unreadable:
        assert len(why.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema": 2}, "schema version 2, expected 1"),
        ({"seed": "zero"}, r"Expected `int`, got `str` - at `\$.seed`"),
        ({"primary_metric": "fid"}, "the primary_metric 'fid' is not among the metrics"),
        ({"metrics": {"kid": {"value": float("nan")}}}, "'value' is nan, expected a finite number"),
        ({"size": {"field": "rank", "value": 0}}, "Expected `float` > 0.0"),
        ({"facts": "many"}, "Expected `object`"),
    ],
)
def test_the_sentence_says_what_is_wrong(tmp_path, change, sentence):
    folder = write(tmp_path, record())
    (folder / "result.json").write_text(json.dumps(record() | change))
    with pytest.raises(ReportError, match=sentence):
        read_run(folder)


def test_deep_nesting_is_no_traceback(tmp_path):
    folder = write(tmp_path, record())
    (folder / "result.json").write_text("[" * 200_000)
    assert "nested too deep" in collect(tmp_path).unreadable[0][1]


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    folder = write(tmp_path / "runs", record())
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    (folder / "samples").mkdir()
    (folder / "samples" / "a.png").symlink_to(secret)
    (folder / "samples" / "b.png").write_bytes(b"x")
    assert list(read_run(folder).samples()) == ["b.png"]
    os.replace(folder / "result.json", tmp_path / "result.json")
    (folder / "result.json").symlink_to(tmp_path / "result.json")
    assert "outside its folder" in collect(tmp_path / "runs").unreadable[0][1]


def test_a_link_to_itself_is_unreadable(tmp_path):
    folder = write(tmp_path, record())
    (folder / "result.json").unlink()
    (folder / "result.json").symlink_to(folder / "result.json")
    assert len(collect(tmp_path).unreadable) == 1


def test_half_a_line_of_steps_is_left_out(tmp_path):
    folder = write(tmp_path, record())
    (folder / "steps.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_run(folder).steps() == [{"step": 1, "loss": 2.0}]


def test_nothing_there(tmp_path):
    with pytest.raises(ReportError, match="holds no runs"):
        collect(tmp_path)
    with pytest.raises(ReportError, match="there is no folder"):
        collect(tmp_path / "none")
