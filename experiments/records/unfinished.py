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

MOST_CHANGES = 3  # in a run that is still taken for the same work
CONTENT = "content of "  # before the name of a setting that names a file


def changed_since(folder: RunFolder, config: RunConfig) -> str | None:
    """A sentence that names what differs from the latest similar interrupted run of the same method and task.

    A similar run differs in at most `MOST_CHANGES` values, and names the same data, base and other content; what these
    names hold may have changed. None without such a run, or if `folder` itself holds a checkpoint to continue from.
    """
    if folder.checkpoint.exists():
        return None
    settings, similar = _flat(config.as_record() | {"content": config.content}), []
    for other, written in _interrupted(folder):
        changes = _changes(_settings(other), settings)
        if other.path != folder.path and _is_similar(changes):
            similar.append((written, other.path, changes))
    if not similar:
        return None
    _, path, changes = max(similar, key=lambda each: each[0])
    return f"a new run begins, because the interrupted one in {path} differs: {', '.join(changes.values())}"


def _is_similar(changes: Mapping[str, str]) -> bool:
    """Few values differ, and none is the name of content that differs too (other data, another base)."""
    renamed = {f"{CONTENT}{name}" for name in changes}
    return 0 < len(changes) <= MOST_CHANGES and renamed.isdisjoint(changes)


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
            prefix = CONTENT if part == "content" else ""
            flat |= {f"{prefix}{owner}.{name}": json.dumps(value, default=str) for name, value in named.items()}
    return flat


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """A phrase, by name, for each value that both have and that differs."""
    return {
        name: name if name.startswith(CONTENT) else f"{name} was {before[name]}, is {value}"
        for name, value in now.items()
        if before.get(name, value) != value
    }
