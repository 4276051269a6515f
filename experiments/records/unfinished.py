"""Says why a run does not continue an interrupted one: settings, or the content that they name, have changed since."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.config import WITHOUT_EFFECT, RunConfig
from experiments.records.folder import CONFIG, RunFolder
from experiments.records.run_lock import LEASE_SECONDS, LOCK_FILE

MOST_NAMED = 3


def changed_since(folder: RunFolder, config: RunConfig) -> str | None:
    """A sentence that names what differs from the latest interrupted run of the same method and task.

    None without such a run, or if `folder` itself holds a checkpoint to continue from.
    """
    interrupted = {other: written for other, written in _interrupted(folder) if other.path != folder.path}
    if folder.checkpoint.exists() or not interrupted:
        return None
    latest = max(interrupted, key=lambda other: interrupted[other])
    changes = list(_changes(_settings(latest), _flat(config.as_record() | {"content": config.content})))
    if not changes:
        return None
    named = ", ".join(changes[:MOST_NAMED]) + (f" and {len(changes) - MOST_NAMED} more" if changes[MOST_NAMED:] else "")
    return f"a new run begins, because the interrupted one in {latest.path} differs: {named}"


def _interrupted(folder: RunFolder) -> Iterator[tuple[RunFolder, float]]:
    """The runs beside this one that have a checkpoint, no record and no writer, each with its checkpoint's time.

    Other processes may remove these files at any moment.
    """
    for checkpoint in folder.path.parent.glob("*/checkpoint"):
        other = RunFolder(checkpoint.parent)
        written, heartbeat = _modified(checkpoint), _modified(other.path / LOCK_FILE)
        running = heartbeat is not None and time.time() - heartbeat < LEASE_SECONDS
        if written is not None and not running and _modified(other.result_file) is None:
            yield other, written


def _modified(file: Path) -> float | None:
    """When the file was last modified, in seconds since 1970; None if there is no such file."""
    with contextlib.suppress(OSError):
        return file.stat().st_mtime
    return None


def _settings(folder: RunFolder) -> dict[str, str]:
    """The settings in the run's `config.json`; empty if unreadable."""
    try:
        return _flat(json.loads((folder.path / CONFIG).read_text()))
    except (OSError, ValueError, AttributeError):
        return {}


def _flat(config: Mapping[str, Any]) -> dict[str, str]:
    """Every value as text, by its dotted name."""
    flat = {}
    for part, settings in config.items():
        digests = settings if part == "content" else {part: settings}
        for owner, values in digests.items():
            named = {name: value for name, value in values.items() if name not in WITHOUT_EFFECT}
            prefix = "content of " if part == "content" else ""
            flat |= {f"{prefix}{owner}.{name}": json.dumps(value, default=str) for name, value in named.items()}
    return flat


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """One phrase for each value that both have and that differs."""
    for name, value in now.items():
        if before.get(name, value) != value:
            yield name if name.startswith("content") else f"{name} was {before[name]}, is {value}"
