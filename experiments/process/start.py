"""What a process of ours sets before it imports torch and tqdm."""

from __future__ import annotations

import os
import sys

from experiments.process.malloc import keep_freed_memory
from experiments.process.openmp import choose_wait_policy

LOCAL_PROCESSES = "LOCAL_WORLD_SIZE"  # of torchrun, on this machine
BAR_SECONDS = "TQDM_MININTERVAL"


def prepare_process(beside: int | None = None) -> None:
    """Choose how OpenMP waits, how memory is kept and how often progress is shown; results stay the same to the bit.

    `beside`: processes of the same command that compute at the same time; None for torchrun's.
    """
    if beside is None:
        beside = int(os.environ.get(LOCAL_PROCESSES, "1")) - 1
    choose_wait_policy(beside)
    keep_freed_memory()
    if not sys.stderr.isatty():
        os.environ.setdefault(BAR_SECONDS, "10")  # a line of a log, not ten a second that overwrite each other
