"""Shipped records: small, the same bytes again, and read by every report like the runs that they come from."""

import io
import os
import tarfile

import pytest

from reports.__main__ import main
from reports.errors import ReportError
from reports.records import collect
from reports.shipping import archive
from tests.reports.synthetic import curve, record, study, write, write_items


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    study(folder)
    other = write(folder, record(fingerprint="with-files") | {"task": "texts", "seed": 7})
    (other / "adapter.safetensors").write_bytes(bytes(100_000))
    (other / "samples").mkdir()
    (other / "samples" / "0.png").write_bytes(b"picture")
    (other / "checkpoint").mkdir()
    (other / "checkpoint" / "state").write_bytes(bytes(1000))
    (other / "steps.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    curve(other, {0: 9.0, 10: 4.0})
    write_items(other, [1.0, 2.0])
    return folder


def ship(runs, folder, *options):
    main(["ship", "--runs", str(runs), "--output", str(folder), *options])
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.tar.xz"))}


def names(file):
    with tarfile.open(file) as archive:
        return archive.getnames()


def test_the_same_runs_give_the_same_bytes(runs, tmp_path):
    first, second = ship(runs, tmp_path / "a"), ship(runs, tmp_path / "b")
    assert first == second
    assert list(first) == ["drawings.tar.xz", "texts.tar.xz"]


def test_weights_samples_and_checkpoints_stay_behind(runs, tmp_path):
    ship(runs, tmp_path / "a")
    inside = [name.rsplit("/", 1)[1] for name in names(tmp_path / "a" / "texts.tar.xz")]
    assert inside == ["config.json", "curve.jsonl", "result.json", "steps.jsonl"]
    ship(runs, tmp_path / "b", "--items", "--tasks", "texts")
    assert [name.rsplit("/", 1)[1] for name in names(tmp_path / "b" / "texts.tar.xz")] == [
        "config.json",
        "curve.jsonl",
        "items.parquet",
        "result.json",
        "steps.jsonl",
    ]
    assert not (tmp_path / "b" / "drawings.tar.xz").exists()


def test_reports_of_the_archives_are_those_of_the_runs(runs, tmp_path, capsys):
    ship(runs, tmp_path / "records")
    capsys.readouterr()

    def printed(folder):
        main(["table", "drawings", "--runs", str(folder)])
        return capsys.readouterr().out

    expected = printed(runs).replace("1 unfinished", "0 unfinished")
    assert printed(tmp_path / "records") == expected
    (run,) = collect(tmp_path / "records").of_task("texts").finished
    assert run.steps() == [{"step": 1, "loss": 2.0}]
    assert [line["step"] for line in run.curve()] == [0, 10]
    assert run.record.seed == 7
    main(["page", "--runs", str(tmp_path / "records"), "--output", str(tmp_path / "page")])
    assert "drawings" in (tmp_path / "page" / "index.html").read_text()


def test_of_repeated_runs_the_newest_still_counts(tmp_path):
    old, new = (write(tmp_path / "runs", record(kid=kid, fingerprint=name)) for kid, name in ((1.0, "b"), (2.0, "a")))
    os.utime(old / "result.json", (1_000, 1_000))
    os.utime(new / "result.json", (2_000, 2_000))
    ship(tmp_path / "runs", tmp_path / "records")
    times = {
        run.folder.name: (run.folder / "result.json").stat().st_mtime for run in collect(tmp_path / "records").finished
    }
    assert times == {"b": 1_000, "a": 2_000}


def test_changed_archives_are_unpacked_again(tmp_path):
    for kid in (1.0, 2.0):
        write(tmp_path / "runs", record(kid=kid))
        ship(tmp_path / "runs", tmp_path / "records")
        (run,) = collect(tmp_path / "records").finished
        assert run.record.metrics["kid"].value == kid


def test_runs_beside_archives_are_refused(runs, tmp_path):
    ship(runs, tmp_path / "records")
    write(tmp_path / "records", record("lora", 4))
    with pytest.raises(
        ReportError, match=r"archives of records and also records outside of them, such as .*lora.*: move"
    ):
        collect(tmp_path / "records")


def test_archives_have_a_folder_of_their_own(runs):
    with pytest.raises(ReportError, match="is the folder of the runs"):
        ship(runs, runs)


def test_an_interrupted_archive_leaves_nothing(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        ship(runs, tmp_path / "records")
    assert not [*(tmp_path / "records").iterdir()]


def test_a_damaged_archive_is_one_sentence(tmp_path):
    (tmp_path / "x.tar.xz").write_bytes(b"no archive")
    with pytest.raises(ReportError, match=r"x.tar.xz' is not an archive of records \(.*\): write it with"):
        collect(tmp_path)


def test_a_file_outside_the_folder_is_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar.xz", "w:xz") as archive:
        entry = tarfile.TarInfo("../../outside.json")
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"{}"))
    with pytest.raises(ReportError, match="is not an archive of records"):
        collect(tmp_path)


def test_an_unknown_task_is_one_sentence(runs, tmp_path):
    with pytest.raises(ReportError, match="no run of 'x' in"):
        ship(runs, tmp_path / "records", "--tasks", "x")
