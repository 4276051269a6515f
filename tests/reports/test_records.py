"""The record reader: whatever the folder contains, every run is read, counted, or reported with a reason."""

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
    collection = collect(tmp_path)
    assert [len(x) for x in (collection.finished, collection.failed, collection.unfinished, collection.unreadable)] == [
        9,
        1,
        1,
        0,
    ]
    assert collection.failed[0].record.reason == "out of memory"


def test_deleting_a_run_removes_only_that_run(tmp_path):
    study(tmp_path)
    before = {run.folder for run in collect(tmp_path).finished}
    deleted = sorted(before)[0]
    shutil.rmtree(deleted)
    assert {run.folder for run in collect(tmp_path).finished} == before - {deleted}


@settings(max_examples=150)
@given(content=st.binary(max_size=80) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_file_is_counted(tmp_path_factory, content):
    _check_counted(tmp_path_factory.mktemp("runs"), content)


@settings(max_examples=200)
@given(key=st.sampled_from(sorted(record())), value=json_values, cut=st.integers(0, 3000))
def test_a_record_with_any_value_anywhere_is_counted(tmp_path_factory, key, value, cut):
    runs = tmp_path_factory.mktemp("runs")
    _check_counted(runs, json.dumps(record() | {key: value}).encode())
    _check_counted(runs, json.dumps(record()).encode()[:cut])


def _check_counted(runs: Path, content: bytes) -> None:
    (folder := runs / "drawings" / "lora" / "x").mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_bytes(content)
    collection = collect(runs)
    assert len(collection.finished) + len(collection.failed) + len(collection.unreadable) == 1
    for _, reason in collection.unreadable:
        assert len(reason.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema": 3}, "schema version 3 is unknown, expected 1 to 2"),
        ({"seed": "zero"}, r"Expected `int`, got `str` - at `\$.seed`"),
        ({"primary_metric": "fid"}, "the primary metric 'fid' is not among the metrics"),
        ({"metrics": {"kid": {"value": float("nan")}}}, "'value' is nan, expected a finite number"),
        ({"size": {"field": "rank", "value": 0}}, "Expected `float` > 0.0"),
        ({"metrics": {"kid": {"value": 1.0, "evaluation": [float("inf")]}}}, "'evaluation' is inf, expected a finite"),
        ({"facts": "many"}, "Expected `object`"),
    ],
)
def test_the_error_names_the_problem(tmp_path, change, sentence):
    folder = write(tmp_path, record())
    (folder / "result.json").write_text(json.dumps(record() | change))
    with pytest.raises(ReportError, match=sentence):
        read_run(folder)


def test_deep_nesting_is_reported(tmp_path):
    folder = write(tmp_path, record())
    (folder / "result.json").write_text("[" * 200_000)
    assert "nested too deeply" in collect(tmp_path).unreadable[0][1]


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


def test_an_incomplete_line_of_steps_is_skipped(tmp_path):
    folder = write(tmp_path, record())
    (folder / "steps.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_run(folder).steps() == [{"step": 1, "loss": 2.0}]


def test_a_folder_without_runs(tmp_path):
    with pytest.raises(ReportError, match="contains no runs"):
        collect(tmp_path)
    with pytest.raises(ReportError, match="no such folder"):
        collect(tmp_path / "none")
