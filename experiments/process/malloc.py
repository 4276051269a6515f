"""Keep freed memory in the process, where the C library is glibc.

By default glibc gives a large block back to the system when it is freed and takes it again, cleared page by page, for
the next tensor: a fifth of a training step of a small language model on a CPU.
"""

from __future__ import annotations

import ctypes
import os
import platform

LARGEST = 2**31 - 1  # mallopt takes an int
# from malloc.h: blocks come from the heap, which shrinks and grows in large steps
OPTIONS = {"M_TRIM_THRESHOLD": (-1, LARGEST), "M_TOP_PAD": (-2, 2**28), "M_MMAP_THRESHOLD": (-3, LARGEST)}
SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "LD_PRELOAD")


def keep_freed_memory() -> bool:
    """Set glibc's allocator so; returns whether it took the settings. A choice of the user's stays."""
    own = any(name in os.environ for name in SETTINGS) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if own or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all([library.mallopt(option, value) == 1 for option, value in OPTIONS.values()])


def return_freed_memory() -> None:
    """Give what is free now back to the system, so that the resident set is what is in use: before it is measured."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
