"""Where published models and datasets are had: an ordered list of places, each tried, each failure named.

Repositories disappear (Stable Diffusion 1.5 and 2.1 both moved, the Pokemon captions are gone), so a name of ours
stands for several places. A place is a repository of the hub, "org/name", or one of its revisions, "org/name@revision".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.errors import TaskError

CONNECTION_SECONDS = 5.0  # then a hub that does not answer counts as out of reach, and is not asked again


@dataclass(frozen=True)
class Found:
    """A repository's files in the hub's cache; `revision` is the commit that they are of."""

    folder: Path
    place: str
    revision: str


def is_place(name: str) -> bool:
    """Whether `name` can be a repository of the hub, "org/name" or "org/name@revision"."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name) is not None and name[0] != "."


def fetch(
    option: str, name: str, places: Sequence[str], files: Sequence[str] | None, kind: Literal["model", "dataset"]
) -> Found:
    """The first of the places that can be had, from the cache or from the hub; `files` are patterns, None is all.

    Raises TaskError, in one sentence, with what each place answered and what to do.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    failures, reachable = [], not constants.HF_HUB_OFFLINE
    for place in places:
        repository, _, revision = place.partition("@")
        try:
            folder = snapshot_download(
                repository,
                repo_type=kind,
                revision=revision or None,
                allow_patterns=None if files is None else list(files),
                etag_timeout=CONNECTION_SECONDS,
                local_files_only=not reachable,
            )
            return Found(Path(folder), place, Path(folder).name)
        except LocalEntryNotFoundError as missing:
            reason = _unreachable(missing) if reachable else "not in the cache"
            reachable = False
        except (HFValidationError, OSError, ValueError) as refused:
            reason = _first_line(refused)
        failures.append(f"{place} ({reason})")
    where = (
        "the hub is switched off by HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else f"the hub is {constants.ENDPOINT}"
    )
    repository, _, revision = places[0].partition("@")
    wanted = "--exclude '*.bin' --exclude '*.ckpt'" if kind == "model" else "--repo-type dataset"
    command = f"hf download {repository} {f'--revision {revision} ' if revision else ''}{wanted}"
    raise TaskError(
        f"{option} '{name}' could not be had from {', nor from '.join(failures)}; {where}: run `{command}` where there "
        f"is a network (HF_ENDPOINT names a mirror) and copy the folder that it prints here, then give it as {option}"
    )


def _unreachable(error: Exception) -> str:
    cause = error.__cause__
    return f"not in the cache, and the hub does not answer: {_first_line(cause or error)}"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
