"""Outcomes that end a run and become its record: out of memory, a full disk, divergence; and being stopped."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class RunFailure(RuntimeError):
    """The run cannot go on; the reason becomes the failed run's record."""


class Diverged(RunFailure):
    """Something is not finite any more."""


class DiskFull(RunFailure):
    """A file did not fit."""

    def __init__(self, file: Path, needed: int | None = None):
        """`needed`: the file's bytes, where they are known. What was written of it is to be removed before."""
        free = shutil.disk_usage(file.parent).free
        missing = "" if needed is None else f" of {size(needed)}: {size(max(needed - free, 1))} are missing"
        super().__init__(
            f"the disk is full: {file.parent} has {size(free)} left for '{file.name}'{missing}; what was finished "
            "stays: free some space and give the same command again"
        )


def size(count: int) -> str:
    """Bytes for people."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def is_disk_full(error: BaseException) -> bool:
    """safetensors gives the system's error as text alone."""
    return getattr(error, "errno", None) in NO_SPACE or "(os error 28)" in str(error)


@contextlib.contextmanager
def failures_are_records(folder: Path, what_would_fit: Callable[[], str | None]) -> Iterator[None]:
    """Turns running out of memory or of disk into a RunFailure with one sentence; other errors are ours and stay."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except RunFailure:
        raise
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error):
            advice = what_would_fit() or "try a smaller --train.batch-size or --train.gradient-checkpointing"
            raise RunFailure(f"out of memory: {first}; {advice}") from error
        if "does not have a deterministic implementation" in str(error):
            raise RunFailure(f"--train.deterministic cannot be had here: {first}") from error
        raise
    except (OSError, SafetensorError) as error:
        if is_disk_full(error):
            raise DiskFull(Path(getattr(error, "filename", None) or folder / "a file")) from error
        raise
