"""A run's folder: its fingerprint, and its files, which are written atomically."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.records.failures import DiskFull, is_disk_full
from reports.upgrade import upgrade, upgrade_config
from tasks import atomic
from tasks.atomic import WRITING

RESERVE = 2**16  # bytes, enough for any record
CONFIG = "config.json"  # the settings, and digests of what they name
RESULT = "result.json"  # the record: written last


def read_config(file: Path) -> RunConfig:
    """The configuration in a run's `config.json`, also of an earlier release.

    Raises UsageError if the file holds no configuration.
    """
    try:
        config = upgrade_config(json.loads(file.read_text()))
        parts = {part: config[part] for part in ("adapter", "task", "train")}
    except OSError as error:
        raise UsageError(f"'{file}' cannot be read ({error.strerror}): expected a run's config.json") from None
    except (ValueError, AttributeError, KeyError):
        raise UsageError(f"'{file}' is not a run configuration: expected a run's config.json") from None
    return RunConfig.from_record(parts)


def fingerprint(config: RunConfig) -> str:
    """The name of a resolved configuration's folder: 12 hex digits of the SHA-256 of its settings and their content.

    A setting that names files counts with their content instead: moved data give the same name, changed data another.
    """
    identity = {part: settings | config.content.get(part, {}) for part, settings in config.identity().items()}
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class RunFolder:
    """`runs/<task>/<method>/<fingerprint>/`; a folder without `result.json` is unfinished."""

    path: Path

    @classmethod
    def of(cls, runs: Path, config: RunConfig) -> RunFolder:
        """The folder of a resolved configuration, whether or not it exists."""
        return cls(runs / config.task.name / config.adapter.name / fingerprint(config))

    def make(self) -> None:
        """Create the folder if there is none. Raises UsageError if it cannot be written."""
        with self._errors():
            self.path.mkdir(parents=True, exist_ok=True)

    def write_config(self, config: RunConfig) -> None:
        """Write `config.json`, and create the folder if there is none. Raises UsageError if it cannot be written."""
        self.make()
        with self._errors():
            write_json(self.path / CONFIG, config.as_record() | {"content": config.content})

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise UsageError for a folder that cannot be written."""
        try:
            yield
        except DiskFull as full:
            raise UsageError(str(full)) from None
        except OSError as unwritable:
            raise UsageError(
                f"'{self.path}' cannot be written ({unwritable.strerror}): choose another folder with --runs"
            ) from None

    @property
    def result_file(self) -> Path:
        return self.path / RESULT

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def adapter_file(self) -> Path:
        return self.path / "adapter.safetensors"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def logs(self) -> tuple[Path, ...]:
        """The logs of the training: of steps, and of quality along it."""
        return self.path / "steps.jsonl", self.path / "curve.jsonl"

    def result(self) -> dict[str, Any] | None:
        """The record of a run that has ended, else None; a failed run that still has a checkpoint can be resumed.

        Raises UsageError if the file is not a record.
        """
        if not self.result_file.exists():
            return None
        try:
            record = upgrade(json.loads(self.result_file.read_text()))
            resumable = record["status"] == "failed" and self.checkpoint.exists()
        except (OSError, ValueError, TypeError, KeyError):
            raise UsageError(f"'{self.result_file}' is not a record: --overwrite repeats the run") from None
        return None if resumable else record

    def remove_if_empty(self) -> None:
        """Remove the folder if it is empty, and those of its method and task if they are then empty too."""
        with contextlib.suppress(OSError):
            for folder in (self.path, *self.path.parents[:2]):
                folder.rmdir()

    def clear(self) -> None:
        """Remove what a run has written here."""
        self.result_file.unlink(missing_ok=True)  # first: from here on the run is unfinished
        for folder in (self.checkpoint, self.samples):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (*self.logs, self.path / "items.parquet", self.adapter_file):
            file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def reserve(self) -> Iterator[None]:
        """Reserve disk space during the run and free it at the end, so that a full disk can still be recorded.

        Raises UsageError if there is not even that much space.
        """
        file = self.path / f"reserve{WRITING}"
        try:
            write_bytes(file, bytes(RESERVE))
        except DiskFull as full:
            raise UsageError(str(full)) from None
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(file: Path, needed: int | None = None) -> Iterator[Path]:
    """`tasks.atomic.replacing` that raises DiskFull if the `needed` bytes do not fit."""
    try:
        with atomic.replacing(file) as temporary:
            yield temporary
    except Exception as error:  # safetensors has an error of its own
        if is_disk_full(error):
            raise DiskFull(file, needed) from error
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove files that a killed process did not finish writing."""
    for file in folder.rglob(f"*{WRITING}"):
        file.unlink(missing_ok=True)


def write_bytes(file: Path, content: bytes) -> None:
    """Write atomically. Raises DiskFull."""
    with replacing(file, len(content)) as temporary:
        temporary.write_bytes(content)


def write_json(file: Path, value: Any) -> None:
    write_bytes(file, (json.dumps(value, indent=2, default=str) + "\n").encode())


def write_items(file: Path, items: list[dict[str, Any]]) -> None:
    """Write one row per evaluated item, as parquet."""
    import pandas as pd

    write_bytes(file, pd.DataFrame(items).to_parquet())
