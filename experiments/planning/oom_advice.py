"""Advice after running out of memory: the predicted need of the run, and settings that would fit."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig
from experiments.planning.memory_plan import GIB, Plan, PlanSettings, plan
from experiments.process.device import device_of
from experiments.records.failures import size_in_words

if TYPE_CHECKING:
    import torch

CHECKPOINTING = "--train.gradient-checkpointing"


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still allocate on the device; None if unknown."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    limits = [_below_limit(), _available()]
    return min((count for count in limits if count is not None), default=None)


def what_would_fit(config: RunConfig, free: int | None) -> str | None:
    """A sentence with the predicted need of the run and a batch size that would fit into `free` bytes.

    None without a prediction: an error here must not hide why the run failed.
    """
    if free is None:
        return None
    try:
        return _sentence(config, free)
    except Exception:  # a model or method whose step cannot be computed with fake tensors may raise anything
        return None


def _sentence(config: RunConfig, free: int) -> str:
    result = _planned(config)
    needed = _in_words(result.with_allowances(result.prediction.peak))
    prediction = (
        f"the {result.prediction.largest.name} was predicted to need {needed}, and {_in_words(free)} were free before "
        "the model was loaded"
    )
    if result.with_allowances(result.prediction.peak) <= free:
        return f"{prediction}: another process may be using memory"
    batch = result.largest_batch(free / GIB)
    if batch:
        return f"{prediction}; --train.batch-size {batch} is predicted to need {_at(result, batch)}"
    checkpointed = _planned(replace(config, train=replace(config.train, batch_size=1, gradient_checkpointing=True)))
    least = checkpointed.with_allowances(checkpointed.prediction.training.peak)
    if least > free:
        return (
            f"{prediction}; even --train.batch-size 1 {CHECKPOINTING} is predicted to need {_in_words(least)}: "
            "choose a smaller base"
        )
    if result.with_allowances(result.evaluation_peak) > free:
        return f"{prediction}; the evaluation does not depend on the training batch: {_smaller_items(config)}"
    return f"{prediction}; --train.batch-size 1 {CHECKPOINTING} is predicted to need {_in_words(least)}"


def _smaller_items(config: RunConfig) -> str:
    size = config.task.input_size_field
    smaller = "choose a smaller base"
    return smaller if size is None else f"lower --task.{size.replace('_', '-')}, or {smaller}"


def _planned(config: RunConfig) -> Plan:
    """The plan by the rules of the run's own device; what CUDA's context takes is not free before the model either."""
    device: Any = device_of(config).type
    return plan(config, PlanSettings(device=device, context=0.0))


def _at(result: Plan, batch: int) -> str:
    return _in_words(result.needed_at(batch) * GIB)


def _in_words(count: float) -> str:
    return size_in_words(round(count))


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
