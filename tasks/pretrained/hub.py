"""Resolve models and datasets from an ordered list of hub repositories; every failed source is reported.

Repositories disappear (Stable Diffusion 1.5 and 2.1 both moved, the Pokemon captions are gone), so one of our names
has several sources. A source is a repository, "org/name", or one of its revisions, "org/name@revision".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.errors import TaskError, first_line

CONNECTION_SECONDS = 5.0  # a hub that does not answer within this time is not tried again


@dataclass(frozen=True)
class Snapshot:
    """A repository's files in the hub's cache; `revision` is their commit."""

    folder: Path
    source: str
    revision: str


def is_repository(name: str) -> bool:
    """Whether `name` has the form of a hub repository, "org/name" or "org/name@revision"."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name) is not None and name[0] != "."


def fetch(
    option: str, name: str, sources: Sequence[str], files: Sequence[str] | None, kind: Literal["model", "dataset"]
) -> Snapshot:
    """Return the first available source, from the cache or the hub. `files` are glob patterns; None fetches all.

    Raises TaskError with the reason why each source failed and the command that downloads the first.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    failures, reachable = [], not constants.HF_HUB_OFFLINE
    for source in sources:
        repository, _, revision = source.partition("@")
        try:
            folder = snapshot_download(
                repository,
                repo_type=kind,
                revision=revision or None,
                allow_patterns=None if files is None else list(files),
                etag_timeout=CONNECTION_SECONDS,
                local_files_only=not reachable,
            )
            return Snapshot(Path(folder), source, Path(folder).name)
        except LocalEntryNotFoundError as missing:
            reason = _no_connection(missing) if reachable else "not in the cache"
            reachable = False
        except (HFValidationError, OSError, ValueError) as refused:
            reason = first_line(refused)
        failures.append(f"{source} ({reason})")
    raise TaskError(_not_found(option, name, sources[0], failures, kind))


def _not_found(option: str, name: str, source: str, failures: Sequence[str], kind: str) -> str:
    from huggingface_hub import constants

    repository, _, revision = source.partition("@")
    selection = "--exclude '*.bin' --exclude '*.ckpt'" if kind == "model" else "--repo-type dataset"
    command = f"hf download {repository} {f'--revision {revision} ' if revision else ''}{selection}"
    hub = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"the hub is {constants.ENDPOINT}"
    return (
        f"{option} '{name}' was not found in {', nor in '.join(failures)}; {hub}: run `{command}` on a machine with a "
        f"network (HF_ENDPOINT selects a mirror), copy the folder that it prints to this machine, and pass it as "
        f"{option}"
    )


def _no_connection(error: Exception) -> str:
    return f"not in the cache, and the hub does not answer: {first_line(error.__cause__ or error)}"
