"""Advice after running out of memory: the predicted need of a step, and settings that would fit."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config import ResolvedTrain, RunConfig
from experiments.records.failures import size_in_words

if TYPE_CHECKING:
    import torch

LARGEST = 64  # larger batches are extrapolated: predicting them takes long
CHECKPOINTING = "--train.gradient-checkpointing"


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still allocate on the device; None if unknown."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    limits = [_below_limit(), _available()]
    return min((count for count in limits if count is not None), default=None)


def what_would_fit(config: RunConfig, free: int | None) -> str | None:
    """A sentence with the predicted peak of a step and a batch size that would fit into `free` bytes.

    None without a prediction: an error here must not hide why the run failed.
    """
    if free is None:
        return None
    try:
        return _sentence(config, free)
    except Exception:  # a model or method whose step cannot be computed with fake tensors may raise anything
        return None


def _sentence(config: RunConfig, free: int) -> str:
    batch = ResolvedTrain.of_steps(config.train, 1).batch_size
    needed, least = _needed(config, batch), _peak(config, 1)
    prediction = (
        f"a step was predicted to need {size_in_words(needed)}, and {size_in_words(free)} were free before the model "
        "was loaded"
    )
    if needed <= free:
        return f"{prediction}: another process may be using memory"
    if least <= free:
        # the peak is convex in the batch size, so linear interpolation never predicts too little
        smaller = 1 + int((free - least) / (needed - least) * (batch - 1))
        needed = size_in_words(_needed(config, smaller))
        return f"{prediction}; --train.batch-size {smaller} is predicted to need {needed}"
    checkpointed = replace(config, train=replace(config.train, gradient_checkpointing=True))
    least = _peak(checkpointed, 1)
    if least <= free:
        return f"{prediction}; --train.batch-size 1 {CHECKPOINTING} is predicted to need {size_in_words(least)}"
    return (
        f"{prediction}; even --train.batch-size 1 {CHECKPOINTING} is predicted to need {size_in_words(least)}: "
        "choose a smaller base"
    )


def _needed(config: RunConfig, batch: int) -> int:
    """The predicted peak; above LARGEST it is extrapolated linearly from smaller batches."""
    if batch <= LARGEST:
        return _peak(config, batch)
    half, whole = _peak(config, LARGEST // 2), _peak(config, LARGEST)
    return whole + (whole - half) * (batch - LARGEST) // (LARGEST - LARGEST // 2)


def _peak(config: RunConfig, batch: int) -> int:
    from experiments.measure.memory_prediction import predict

    return predict(replace(config, train=replace(config.train, batch_size=batch))).peak


def _below_limit() -> int | None:
    """Bytes left below the limit of the process's address space (ulimit -v)."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            return max(0, limit - used)
    return None


def _available() -> int | None:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    return None
