"""Failures that become a run's record: out of memory, a full disk, divergence."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.errors import first_line

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
DIVERGED = "diverged: "  # how the reason in the record of a diverged run begins


class RunFailure(RuntimeError):
    """The run cannot continue; the message is the reason in its record."""


class Diverged(RunFailure):
    """A weight, a loss or a gradient is not finite."""


class DiskFull(RunFailure):
    """A file did not fit."""

    def __init__(self, file: Path, needed: int | None = None):
        """`needed` is the file's size in bytes, if known. Remove the incomplete file before."""
        free = shutil.disk_usage(file.parent).free
        missing = (
            "" if needed is None else f" of {size_in_words(needed)}: {size_in_words(max(needed - free, 1))} are missing"
        )
        super().__init__(
            f"the disk is full: {file.parent} has {size_in_words(free)} left for '{file.name}'{missing}; "
            "finished files are intact: free some space and repeat the command"
        )


def size_in_words(count: int) -> str:
    """A number of bytes with a decimal unit."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def is_disk_full(error: BaseException) -> bool:
    """Whether the error is a full disk or quota; safetensors passes the system's error on as text only."""
    return getattr(error, "errno", None) in NO_SPACE or "(os error 28)" in str(error)


@contextlib.contextmanager
def failures_are_records(folder: Path, what_would_fit: Callable[[], str | None]) -> Iterator[None]:
    """Turn running out of memory or of disk space into a RunFailure with one sentence; other errors pass unchanged."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except RunFailure:
        raise
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        first = first_line(error)
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error):
            advice = what_would_fit() or "try a smaller --train.batch-size or --train.gradient-checkpointing"
            raise RunFailure(f"out of memory: {first}; {advice}") from error
        if "does not have a deterministic implementation" in str(error):
            raise RunFailure(f"--train.deterministic is not supported here: {first}") from error
        raise
    except (OSError, SafetensorError) as error:
        if is_disk_full(error):
            raise DiskFull(Path(getattr(error, "filename", None) or folder / "a file")) from error
        raise
