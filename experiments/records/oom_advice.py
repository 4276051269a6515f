"""After running out of memory: what a step was predicted to need, and what would fit instead."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config import RunConfig
from experiments.records.failures import size

if TYPE_CHECKING:
    import torch

LARGEST = 64  # items of a batch that is predicted as it is
CHECKPOINTING = "--train.gradient-checkpointing"


def room(device: torch.device) -> int | None:
    """Bytes that this process may still take on the device; None where the system does not say."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    found = [_limit_left(), _available()]
    return min((count for count in found if count is not None), default=None)


def what_would_fit(config: RunConfig, free: int | None) -> str | None:
    """The predicted peak of a resolved configuration's step, and a batch that would fit into `free` bytes, in words.

    None where there is no prediction: the run has failed, and what fails here must not hide why.
    """
    if free is None:
        return None
    try:
        return _sentence(config, free)
    except Exception:  # a model or method whose step cannot be computed with fake tensors may raise anything
        return None


def _sentence(config: RunConfig, free: int) -> str:
    batch = config.train.batch_size or 1
    needed, least = _needed(config, batch), _peak(config, 1)
    told = f"a step was predicted to need {size(needed)} and {size(free)} were free before the model was loaded"
    if needed <= free:
        return f"{told}: something else takes memory here"
    if least <= free:
        # the peak is convex in the batch (see experiments.plan), so a straight line between never promises too little
        fitting = 1 + int((free - least) / (needed - least) * (batch - 1))
        return f"{told}; --train.batch-size {fitting} is predicted to need {size(_needed(config, fitting))}"
    saved = replace(config, train=replace(config.train, gradient_checkpointing=True))
    least = _peak(saved, 1)
    if least <= free:
        return f"{told}; --train.batch-size 1 {CHECKPOINTING} is predicted to need {size(least)}"
    return f"{told}; even --train.batch-size 1 {CHECKPOINTING} is predicted to need {size(least)}: take a smaller base"


def _needed(config: RunConfig, batch: int) -> int:
    """The peak; for a batch above LARGEST, which takes long to predict, on a straight line through smaller ones."""
    if batch <= LARGEST:
        return _peak(config, batch)
    half, whole = _peak(config, LARGEST // 2), _peak(config, LARGEST)
    return whole + (whole - half) * (batch - LARGEST) // (LARGEST - LARGEST // 2)


def _peak(config: RunConfig, batch: int) -> int:
    from experiments.measure.memory_prediction import predict

    return predict(replace(config, train=replace(config.train, batch_size=batch))).peak


def _limit_left() -> int | None:
    """What a limit of the process's address space leaves (ulimit -v)."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            return max(0, limit - taken)
    return None


def _available() -> int | None:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    return None
