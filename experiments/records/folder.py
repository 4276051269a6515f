"""A run's folder: its fingerprint, its files written atomically, and the environment in which it ran."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.records.failures import DiskFull, is_disk_full
from reports.upgrade import SCHEMA, upgrade, upgrade_config
from tasks import atomic
from tasks.atomic import WRITING

PACKAGES = ("torch", "diffusers", "transformers", "peft", "accelerate", "datasets", "torchmetrics", "numpy")
RESERVE = 2**16  # bytes, enough for any record
ROOT = Path(__file__).parents[2]


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
    """The name of a resolved configuration's folder: the first 12 hex digits of the SHA-256 of its identity."""
    text = json.dumps(config.identity(), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class RunFolder:
    """`runs/<task>/<method>/<fingerprint>/`; a folder without `result.json` is unfinished."""

    path: Path

    @classmethod
    def of(cls, runs: Path, config: RunConfig) -> RunFolder:
        """The folder of a resolved configuration, whether or not it exists."""
        return cls(runs / config.task.name / config.adapter.name / fingerprint(config))

    @classmethod
    def create(cls, runs: Path, config: RunConfig) -> RunFolder:
        """Create the folder of a configuration with its `config.json`. Raises UsageError if it cannot be written."""
        path = cls.of(runs, config).path
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / "config.json", config.as_record())
        except DiskFull as full:
            raise UsageError(str(full)) from None
        except OSError as unwritable:
            raise UsageError(
                f"--runs '{runs}' cannot be written ({unwritable.strerror}): choose another folder"
            ) from None
        return cls(path)

    @property
    def result_file(self) -> Path:
        return self.path / "result.json"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def adapter_file(self) -> Path:
        return self.path / "adapter.safetensors"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

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

    def clear(self) -> None:
        """Remove what a run has written here."""
        self.result_file.unlink(missing_ok=True)  # first: from here on the run is unfinished
        for folder in (self.checkpoint, self.samples):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.path / "steps.jsonl", self.path / "items.parquet", self.adapter_file):
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


def provenance(device: str) -> dict[str, Any]:
    """Schema, package versions, machine, and the project's commit and whether its working tree was dirty."""
    return {
        "schema": SCHEMA,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "device": device,
        "host": {"system": platform.platform(), "processor": processor(), "cores": os.cpu_count()},
        "git": _git(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if lines:
            return lines[0].split(":", 1)[1].strip()
    return platform.processor()


def _git() -> dict[str, Any]:
    """The commit of this project's checkout and whether it is dirty; None without a checkout."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changes = ask("rev-parse", "HEAD"), ask("status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}
