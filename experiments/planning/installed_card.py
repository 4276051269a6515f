"""The GPU of this machine, by its driver: CUDA is not initialised, which would take memory on it."""

from __future__ import annotations

import subprocess
from functools import cache

from experiments.process.device import visible_gpus

QUERY = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "-i")


@cache
def gpu_name() -> str | None:
    """What the driver calls the first GPU that this process may use; None if that is unknown."""
    gpus = visible_gpus()
    if not gpus:
        return None
    try:
        done = subprocess.run([*QUERY, gpus[0]], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
