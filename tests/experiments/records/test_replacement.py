"""`--overwrite`: a finished run stays as it was until its replacement has finished too."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.records.failures import DiskFull
from experiments.records.folder import RunFolder
from experiments.records.load_run import finished_record
from experiments.records.replacement import replacement_of
from experiments.session import execute, run
from experiments.sweeping.runner import sweep
from experiments.training.callbacks import Callback
from tasks.errors import TaskError

CPU = Train(device="cpu", steps=4, checkpointing_steps=1)


class Stop(Callback):
    """Interrupts the training after a step, as Ctrl-C does."""

    def __init__(self, step: int, error: BaseException):
        self.step, self.error, self.seen = step, error, []

    def on_step(self, trainer, step, line):
        self.seen.append(step)
        if step == self.step:
            raise self.error


@pytest.fixture
def finished(tiny_task, tmp_path) -> RunFolder:
    return RunFolder(run(Lora(rank=2), tiny_task(), CPU, runs=tmp_path).folder)


def contents(folder: RunFolder) -> dict[str, bytes]:
    return {str(file.relative_to(folder.path)): file.read_bytes() for file in folder.path.rglob("*") if file.is_file()}


def again(folder: RunFolder, tiny_task, *callbacks):
    return run(Lora(rank=2), tiny_task(), CPU, runs=folder.path.parents[2], overwrite=True, callbacks=callbacks)


@pytest.mark.parametrize("error", [TaskError("the folder is gone"), KeyboardInterrupt()])
def test_an_error_in_the_set_up_leaves_everything(error, finished, tiny_task, monkeypatch):
    def prepare(*_):
        raise error

    before = contents(finished)
    monkeypatch.setattr(tiny_task, "prepare", prepare)
    with pytest.raises(type(error)):
        again(finished, tiny_task)
    assert contents(finished) == before


def test_an_interrupted_replacement_resumes_and_then_takes_the_place(finished, tiny_task):
    before = contents(finished)
    with pytest.raises(KeyboardInterrupt):
        again(finished, tiny_task, Stop(3, KeyboardInterrupt()))
    assert {name: data for name, data in contents(finished).items() if name in before} == before
    follower = Stop(99, KeyboardInterrupt())
    record = again(finished, tiny_task, follower)
    assert follower.seen == [3, 4]
    assert record.data["training"]["resumed_from"] == 2
    assert record.data["fingerprint"] == finished.path.name
    assert json.loads(finished.result_file.read_text()) == record.data
    assert sorted(contents(finished)) == sorted(before)


def test_a_failed_replacement_leaves_the_finished_run(finished, tiny_task):
    before = contents(finished)
    record = again(finished, tiny_task, Stop(2, DiskFull(finished.path / "x")))
    assert record.status == "failed"
    assert "the finished run stays as it was, and the failed one is in " in str(record.reason)
    assert {name: data for name, data in contents(finished).items() if name in before} == before


def cut_off(folder: RunFolder, tiny_task, monkeypatch, moves: int) -> dict:
    """Repeat a finished run, cut off before the move of the replacement's next file; returns the new record.

    The old run's weights and time of training are changed before, so that they differ from the new ones.
    """
    folder.adapter_file.write_bytes(b"old weights")
    old = json.loads(folder.result_file.read_text())
    folder.result_file.write_text(json.dumps(old | {"seconds": old["seconds"] | {"train": -1.0}}))
    replace_file, done = Path.replace, []

    def interrupted(self, target):
        if self.parent == replacement_of(folder).path and Path(target).parent == folder.path:
            if len(done) == moves:
                raise KeyboardInterrupt
            done.append(self)
        return replace_file(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            again(folder, tiny_task)
    return json.loads(replacement_of(folder).result_file.read_text())


@pytest.mark.parametrize("moves", [0, 1, 3])
def test_a_move_that_was_cut_off_is_completed_by_the_next_run(moves, finished, tiny_task, tmp_path, monkeypatch):
    new = cut_off(finished, tiny_task, monkeypatch, moves)
    record = run(Lora(rank=2), tiny_task(), CPU, runs=tmp_path)
    assert record.data == new
    assert record.data["seconds"]["train"] >= 0
    assert finished.adapter_file.read_bytes() != b"old weights"
    assert not replacement_of(finished).path.exists()


def test_a_move_that_was_cut_off_is_completed_by_a_sweep(finished, tiny_task, tmp_path, monkeypatch):
    new = cut_off(finished, tiny_task, monkeypatch, 2)
    (record,) = sweep(Lora(rank=2), tiny_task(), train=CPU, runs=tmp_path)
    assert record.data == new
    assert finished.adapter_file.read_bytes() != b"old weights"


def test_a_move_that_was_cut_off_is_completed_by_a_reader(finished, tiny_task, monkeypatch):
    new = cut_off(finished, tiny_task, monkeypatch, 2)
    assert finished_record(finished) == new
    assert finished.adapter_file.read_bytes() != b"old weights"


def test_overwriting_leaves_the_finished_runs_configuration(finished, tiny_task):
    before = finished.path.joinpath("config.json").stat()
    with pytest.raises(KeyboardInterrupt):
        again(finished, tiny_task, Stop(3, KeyboardInterrupt()))
    after = finished.path.joinpath("config.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_unused_folder_is_emptied_under_its_lock(tiny_task, tmp_path, monkeypatch):
    """Else another process that starts the run then would lose its config.json."""
    monkeypatch.setattr(tiny_task, "prepare", lambda *_: (_ for _ in ()).throw(TaskError("the base is gone")))
    locked, unlink = [], Path.unlink

    def watched(self, missing_ok=False):
        if self.name == "config.json":
            locked.append((self.parent / "lease").exists())
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    with pytest.raises(TaskError, match="the base is gone"):
        run(Lora(rank=2), tiny_task(), CPU, runs=tmp_path / "runs")
    assert locked == [True]
    assert not list((tmp_path / "runs").iterdir())


def test_a_damaged_record_is_overwritten(finished, tiny_task):
    finished.result_file.write_text("{")
    assert again(finished, tiny_task).status == "finished"


def test_the_interrupted_run_of_other_settings_is_named(finished, tiny_task, tmp_path):
    from experiments.records.unfinished import changed_since

    config = RunConfig(Lora(rank=2), tiny_task(), replace(CPU, steps=9)).resolved()
    folder = RunFolder.of(tmp_path, config)
    assert changed_since(folder, config) is None, "a finished run is not an interrupted one"
    with pytest.raises(KeyboardInterrupt):
        execute(config, folder, callbacks=[Stop(3, KeyboardInterrupt())])
    assert changed_since(folder, config) is None, "it resumes"
    other = RunConfig(Lora(rank=2, alpha=3.0), tiny_task(), replace(CPU, steps=9)).resolved()
    sentence = changed_since(RunFolder.of(tmp_path, other), other)
    assert sentence is not None
    assert "a new run begins" in sentence
    assert str(folder.path) in sentence
    assert sentence.endswith("differs: adapter.alpha was 16.0, is 3.0")


@pytest.mark.parametrize("of_few_settings", [True, False])
def test_an_unrelated_interrupted_run_is_not_named(of_few_settings, tiny_task, tmp_path, monkeypatch):
    """Many settings differ, or the data are others under another name."""
    from experiments.records.unfinished import changed_since

    digests = {"diary": "one"}
    monkeypatch.setattr(tiny_task, "content_digests", lambda self: dict(digests))
    config = RunConfig(Lora(rank=2), tiny_task(diary=str(tmp_path)), CPU).resolved()
    with pytest.raises(KeyboardInterrupt):
        execute(config, RunFolder.of(tmp_path, config), callbacks=[Stop(2, KeyboardInterrupt())])
    if of_few_settings:
        digests["diary"] = "two"
        other = RunConfig(Lora(rank=2), tiny_task(), CPU)
    else:
        other = RunConfig(Lora(rank=3, alpha=3.0), config.task, replace(CPU, seed=5, learning_rate=0.5))
    resolved = other.resolved()
    assert changed_since(RunFolder.of(tmp_path, resolved), resolved) is None


def test_changed_content_is_named_too(tiny_task, tmp_path, monkeypatch):
    from experiments.records.unfinished import changed_since

    monkeypatch.setattr(tiny_task, "content_digests", lambda self: {"data": "one"})
    config = RunConfig(Lora(rank=2), tiny_task(), CPU).resolved()
    folder = RunFolder.of(tmp_path, config)
    with pytest.raises(KeyboardInterrupt):
        execute(config, folder, callbacks=[Stop(2, KeyboardInterrupt())])
    assert json.loads((folder.path / "config.json").read_text())["content"] == {"adapter": {}, "task": {"data": "one"}}
    monkeypatch.setattr(tiny_task, "content_digests", lambda self: {"data": "two"})
    changed = RunConfig(Lora(rank=2), tiny_task(), CPU).resolved()
    other = RunFolder.of(tmp_path, changed)
    assert other != folder
    assert str(changed_since(other, changed)).endswith("differs: content of task.data")
    record = execute(changed, other)
    assert (record["content"]["task"], record["training"]["resumed_from"]) == ({"data": "two"}, 0)


def test_files_that_vanish_are_no_error(tiny_task, tmp_path, monkeypatch):
    """Another process may finish the run, and remove its checkpoint and lock, at any moment."""
    from experiments.records.unfinished import changed_since

    config = RunConfig(Lora(rank=2), tiny_task(), CPU).resolved()
    folder = RunFolder.of(tmp_path, config)
    with pytest.raises(KeyboardInterrupt):
        execute(config, folder, callbacks=[Stop(2, KeyboardInterrupt())])
    other = RunConfig(Lora(rank=2, alpha=3.0), tiny_task(), CPU).resolved()
    listed = [folder.checkpoint, folder.path.parent / "vanished" / "checkpoint"]
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(listed))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda self: self.name == "lease")
        assert str(folder.path) in str(changed_since(RunFolder.of(tmp_path, other), other))
