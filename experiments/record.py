"""The run record: its folder and fingerprint, atomic files, and the environment that a figure was measured in."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from experiments.config import RunConfig, UsageError

SCHEMA = 1
PACKAGES = ("torch", "diffusers", "transformers", "peft", "accelerate", "datasets", "torchmetrics", "numpy")
ROOT = Path(__file__).parent.parent


def fingerprint(config: RunConfig) -> str:
    """A short name of a resolved configuration: the first 12 hex digits of the SHA-256 of its identity."""
    text = json.dumps(config.identity(), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class RunFolder:
    """`runs/<task>/<method>/<fingerprint>/`; a folder without `result.json` is unfinished."""

    path: Path

    @classmethod
    def of(cls, runs: Path, config: RunConfig) -> RunFolder:
        """Where the record of a resolved configuration is, or will be."""
        return cls(runs / config.task.name / config.adapter.name / fingerprint(config))

    @classmethod
    def create(cls, runs: Path, config: RunConfig) -> RunFolder:
        """The folder of a configuration, with its `config.json`. Raises UsageError where it cannot be written."""
        path = cls.of(runs, config).path
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / "config.json", config.as_record())
        except OSError as unwritable:
            raise UsageError(
                f"--runs '{runs}' cannot be written ({unwritable.strerror}): name a folder that can"
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
        """The record where the run has finished, else None."""
        if not self.result_file.exists():
            return None
        return json.loads(self.result_file.read_text())


def write_json(file: Path, value: Any) -> None:
    """Written beside and renamed over: a reader sees the old file or the new one, whole."""
    beside = file.with_suffix(".writing")
    beside.write_text(json.dumps(value, indent=2, default=str) + "\n")
    beside.replace(file)


def write_items(file: Path, items: list[dict[str, Any]]) -> None:
    """One row an evaluated item, as parquet."""
    import pandas as pd

    beside = file.with_suffix(".writing")
    pd.DataFrame(items).to_parquet(beside)
    beside.replace(file)


def environment(device: str) -> dict[str, Any]:
    """Versions, machine, and the project's commit with whether the tree was dirty."""
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "device": device,
        "host": {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
        "git": _git(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if lines:
            return lines[0].split(":", 1)[1].strip()
    return platform.processor()


def _git() -> dict[str, Any]:
    """Commit and dirtiness of this project's checkout; None where it was installed without one."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changes = ask("rev-parse", "HEAD"), ask("status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}
