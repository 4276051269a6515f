"""Peak memory of a training: the CUDA allocator's own count, or the process's resident set on a CPU."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

CLEAR_PEAK = Path("/proc/self/clear_refs")  # writing 5 resets VmHWM (Linux, proc(5))
STATUS = Path("/proc/self/status")


def reset_peak() -> None:
    """Start counting anew, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        CLEAR_PEAK.write_text("5")


def peak_bytes() -> dict[str, Any]:
    """The peak since `reset_peak` in bytes, and how it was counted."""
    if torch.cuda.is_available():
        return {"peak_bytes": torch.cuda.max_memory_allocated(), "how": "CUDA allocator, training steps"}
    with contextlib.suppress(OSError, StopIteration):
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return {"peak_bytes": int(line.split()[1]) * 1024, "how": "peak resident set of the process while training"}
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"peak_bytes": peak, "how": "peak resident set of the process since it started"}
