"""At most one process writes to a run folder, on shared storage too.

filelock's SoftFileLease does the work. Other machines do not see a system lock (flock) on many shared file systems; a
lease is a file created exclusively that names host, pid and start time of its holder, whose thread updates the file's
time as a heartbeat. A dead holder on this machine loses it at once; one on another machine after LEASE_SECONDS without
a heartbeat, measured by our own clock, so that clocks need not agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import SoftFileLease, Timeout

from experiments.errors import UsageError

LEASE_SECONDS = 60.0  # every process of a run must agree
HEARTBEAT_SECONDS = 10.0
LOCK_FILE = "lease"  # the name in run folders of the first release
HOLDER_FILE = "writer.json"  # the holder's description of itself, for the error message


class LockLost(UsageError):
    """Another process has taken over the run while this one was suspended."""


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock of a run folder. The value is a function to call before writing: it raises LockLost.

    Raises UsageError, which names the holder, if another process holds the lock.
    """
    lock = _lock(folder)
    try:
        _acquire(lock, folder)
        (folder / HOLDER_FILE).write_text(json.dumps(_this_process()))
    except OSError as unwritable:
        raise UsageError(
            f"'{folder}' cannot be written ({unwritable.strerror}): free disk space or change its permissions"
        ) from None

    def check() -> None:
        if lock.compromise is not None:
            raise LockLost(f"another process took over '{folder}' while this one was suspended: this one stops writing")

    try:
        yield check
    finally:
        if lock.compromise is None:
            (folder / HOLDER_FILE).unlink(missing_ok=True)
        lock.release()


def wait_until_free(folder: Path, seconds: float) -> None:
    """Wait at most this many seconds for a process that holds the lock and may be about to end."""
    lock = _lock(folder)
    if folder.is_dir():
        with contextlib.suppress(Timeout, OSError):
            lock.acquire(timeout=seconds, poll_interval=0.1)
            lock.release()


def _lock(folder: Path) -> SoftFileLease:
    return SoftFileLease(
        folder / LOCK_FILE, lease_duration=LEASE_SECONDS, heartbeat_interval=HEARTBEAT_SECONDS, thread_local=False
    )


def _acquire(lock: SoftFileLease, folder: Path) -> None:
    """Refuse at once if the holder is on this machine; else wait to see whether it sends a heartbeat."""
    with contextlib.suppress(Timeout):
        lock.acquire(timeout=0.5, poll_interval=0.1)  # two attempts: the first may only remove a dead holder's file
        return
    holder, heartbeat = _holder(folder, lock), _heartbeat(folder)
    here = _pid_namespace()
    if holder.get("place", here) != here:
        print(
            f"locked by {_in_words(holder)}: waiting up to {2 * LEASE_SECONDS:.0f} s for a heartbeat", file=sys.stderr
        )
        with contextlib.suppress(Timeout):
            lock.acquire(
                timeout=2 * LEASE_SECONDS, poll_interval=1, cancel_check=lambda: _heartbeat(folder) != heartbeat
            )
            return
    raise UsageError(f"the run '{folder}' is in use by {_in_words(holder)}: wait for it, or stop it and try again")


def _heartbeat(folder: Path) -> float | None:
    """The time of the holder's last heartbeat."""
    with contextlib.suppress(OSError):
        return (folder / LOCK_FILE).stat().st_mtime
    return None


def _holder(folder: Path, lock: SoftFileLease) -> dict[str, Any]:
    """The holder's description of itself, or what the lock says if the holder has only just started."""
    owner = lock.owner
    with contextlib.suppress(OSError, ValueError):
        holder = json.loads((folder / HOLDER_FILE).read_text())
        if isinstance(holder, dict) and (owner is None or holder.get("pid") == owner.pid):
            return holder
    return {} if owner is None else {"pid": owner.pid, "host": owner.hostname}


def _in_words(holder: dict[str, Any]) -> str:
    since = f"since {holder['since']}" if "since" in holder else "that has just started"
    return f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')} {since}"


def _this_process() -> dict[str, Any]:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "place": _pid_namespace()}


def _pid_namespace() -> str:
    """What makes a pid unique: this host and, on Linux, this pid namespace."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()
