"""One writer a run folder, on shared storage too.

filelock's SoftFileLease does the work. A lock of the system (flock) is not seen by other machines on many shared file
systems; a lease is a file made by exclusive creation, which names host, pid and the process's start, and whose time a
thread renews. A holder of this machine that is dead loses it at once; one of another machine when its renewals have
stood still for LEASE seconds of our own clock, so that clocks need not agree.
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

LEASE = 60.0  # seconds; every process of a run must agree
RENEWAL = 10.0
WRITER = "writer.json"  # what the holder says of itself, for the message


class LeaseLost(UsageError):
    """Another process has taken the run over while this one stood still."""


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold the run folder; the value raises LeaseLost once it is held no more, and is to be called before writing.

    Raises UsageError, naming the holder, where another process has it.
    """
    lease = _lease(folder)
    try:
        _acquire(lease, folder)
        (folder / WRITER).write_text(json.dumps(_this_process()))
    except OSError as unwritable:
        raise UsageError(f"'{folder}' cannot be written ({unwritable.strerror}): free space or mend its mode") from None

    def check() -> None:
        if lease.compromise is not None:
            raise LeaseLost(f"another process took over '{folder}' while this one stood still: nothing more is written")

    try:
        yield check
    finally:
        if lease.compromise is None:
            (folder / WRITER).unlink(missing_ok=True)
        lease.release()


def wait_until_free(folder: Path, seconds: float) -> None:
    """Wait for a process that holds the folder, and may be about to end, at most so long."""
    lease = _lease(folder)
    if folder.is_dir():
        with contextlib.suppress(Timeout, OSError):
            lease.acquire(timeout=seconds, poll_interval=0.1)
            lease.release()


def _lease(folder: Path) -> SoftFileLease:
    return SoftFileLease(folder / "lease", lease_duration=LEASE, heartbeat_interval=RENEWAL, thread_local=False)


def _acquire(lease: SoftFileLease, folder: Path) -> None:
    """Refuse at once where the holder lives on this machine; else wait to see whether it still renews its lease."""
    with contextlib.suppress(Timeout):
        lease.acquire(timeout=0.5, poll_interval=0.1)  # two tries: the first may only clear away a dead holder
        return
    writer, renewed = _writer(folder, lease), _renewed(folder)
    if writer.get("place", _place()) != _place():
        print(f"held by {_named(writer)}: waiting up to {2 * LEASE:.0f} s for a sign of life", file=sys.stderr)
        with contextlib.suppress(Timeout):
            lease.acquire(timeout=2 * LEASE, poll_interval=1, cancel_check=lambda: _renewed(folder) != renewed)
            return
    raise UsageError(f"the run '{folder}' is in use by {_named(writer)}: wait for it, or stop it and try again")


def _renewed(folder: Path) -> float | None:
    with contextlib.suppress(OSError):
        return (folder / "lease").stat().st_mtime
    return None


def _writer(folder: Path, lease: SoftFileLease) -> dict[str, Any]:
    """What the holder says of itself; only what its lease says where it has just begun."""
    owner = lease.owner
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / WRITER).read_text())
        if isinstance(found, dict) and (owner is None or found.get("pid") == owner.pid):
            return found
    return {} if owner is None else {"pid": owner.pid, "host": owner.hostname}


def _named(writer: dict[str, Any]) -> str:
    since = f"since {writer['since']}" if "since" in writer else "that has just begun"
    return f"process {writer.get('pid', 'unknown')} on {writer.get('host', 'an unknown host')} {since}"


def _this_process() -> dict[str, Any]:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "place": _place()}


def _place() -> str:
    """Where a pid means the same process: this host, and on Linux this namespace of pids."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()
