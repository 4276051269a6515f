"""How OpenMP's threads wait for each other, chosen by the machine's load.

By default a thread that waits spins, which is fastest on a machine with a free core for every thread. Beside other
busy processes the threads then spin while the one that they wait for has no core: a step of .37 s took 1.35 s beside
one busy process on two cores and 20 s beside three; with threads that sleep (OMP_WAIT_POLICY=passive) .69 and 1.2 s.
On a quiet machine sleeping costs 5 to 18 %.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

POLICY = "OMP_WAIT_POLICY"
SETTINGS = (POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")  # by which a user decides
SAMPLES, SECONDS_APART = 5, 0.005  # of the number of processes that compute


def choose_wait_policy(beside: int = 0) -> None:
    """Set OMP_WAIT_POLICY to passive if other processes compute on the cores that this one's threads would need.

    `beside`: processes of the same command, which share the cores with this one all along. OpenMP reads the variable
    when torch is imported. A choice of the user's stays.
    """
    if any(name in os.environ for name in SETTINGS):
        return
    if beside or busy_processes() + threads() > (os.cpu_count() or 1):
        os.environ[POLICY] = "passive"


def threads() -> int:
    """The threads that torch will start in this process."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else usable_cores()


def usable_cores() -> int:
    """Cores that this process may use; a container or `taskset` may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_processes(file: Path = Path("/proc/loadavg")) -> float:
    """Threads of other programs that compute at this moment; without /proc those of the last minute on average.

    The last minute would count a run that has just ended, and miss one that has just begun.
    """
    try:
        return statistics.median(_runnable(file) for _ in range(SAMPLES)) - 1  # without this one
    except OSError:
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _runnable(file: Path) -> int:
    time.sleep(SECONDS_APART)
    return int(file.read_text().split()[3].split("/")[0])  # "0.20 0.18 0.12 RUNNABLE/ALL LAST_PID"
