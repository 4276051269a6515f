"""Repeat a finished run (`--overwrite`): it stays until its replacement has finished, which then takes its place."""

from __future__ import annotations

import contextlib
import shutil
from typing import Any

from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.records.folder import CONFIG, RESULT, RunFolder, remove_unfinished, write_json
from experiments.records.run_lock import HOLDER_FILE, LOCK_FILE, only_writer

REPLACEMENT = "replacement"  # in a finished run's folder: the folder of the run that will replace it


def replacement_of(folder: RunFolder) -> RunFolder:
    """Where the finished run in `folder` is repeated; the lock of `folder` covers it."""
    return RunFolder(folder.path / REPLACEMENT / folder.path.name)


def has_finished(folder: RunFolder) -> bool:
    """Whether the folder holds the record of a finished run."""
    try:
        record = folder.result()
    except UsageError:
        return False
    return record is not None and record["status"] == "finished"


def adopt_replacement(folder: RunFolder) -> None:
    """Move the files of a finished replacement to `folder`, its record last. The caller holds the lock.

    The old record goes first, so that an interrupted move leaves an unfinished run, which the next call completes.
    """
    replacement = replacement_of(folder)
    if not has_finished(replacement):
        return
    folder.result_file.unlink(missing_ok=True)
    for file in sorted(replacement.path.iterdir(), key=lambda file: file.name == RESULT):
        target = folder.path / file.name
        if target.is_dir():
            shutil.rmtree(target)
        file.replace(target)
    shutil.rmtree(replacement.path.parent)


def complete_replacement(folder: RunFolder) -> None:
    """Complete an interrupted move, for a reader of the run. Raises UsageError if another process uses the folder."""
    if not folder.result_file.exists() and has_finished(replacement_of(folder)):
        with only_writer(folder.path):
            adopt_replacement(folder)


def prepared_folder(config: RunConfig, folder: RunFolder, overwrite: bool) -> tuple[dict[str, Any] | None, RunFolder]:
    """The record of a run that has ended, or None and the folder that is ready to start or resume the run.

    The caller holds the lock. Raises UsageError if the folder cannot be written.
    """
    adopt_replacement(folder)
    target = replacement_of(folder) if overwrite and has_finished(folder) else folder
    if overwrite and not (target != folder and target.checkpoint.exists()):  # an interrupted repetition resumes
        target.clear()
    record = target.result()
    if record is None:
        target.write_config(config)
        target.result_file.unlink(missing_ok=True)
        remove_unfinished(target.path)
    elif record["status"] == "finished":
        shutil.rmtree(target.checkpoint, ignore_errors=True)
    return record, target


def write_record(folder: RunFolder, target: RunFolder, record: dict[str, Any]) -> None:
    """Write the record to `target`; a replacement that has finished then takes the place of the run in `folder`."""
    if target != folder and record["status"] != "finished":
        record["reason"] += f"; the finished run stays as it was, and the failed one is in {target.path}"
    write_json(target.result_file, record)
    if record["status"] == "finished":
        shutil.rmtree(target.checkpoint, ignore_errors=True)
        adopt_replacement(folder)


def remove_unused_config(folder: RunFolder) -> None:
    """Remove `config.json`, and that of the replacement, if nothing else has been written. The caller holds the lock.

    The folder, which is then empty, can be removed once the lock is released (`RunFolder.remove_if_empty`).
    """
    replacement = replacement_of(folder)
    for each in (replacement, folder):
        with contextlib.suppress(OSError):
            if {file.name for file in each.path.iterdir()} <= {CONFIG, LOCK_FILE, HOLDER_FILE}:
                (each.path / CONFIG).unlink(missing_ok=True)
        if each == replacement:
            each.remove_if_empty()
