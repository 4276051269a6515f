"""The device of a run, and what it can compute with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from tasks import distributed

if TYPE_CHECKING:
    import torch


def device_of(config: RunConfig) -> torch.device:
    """The device that `--train.device` names; with several processes on CUDA, each its own GPU.

    Raises UsageError if CUDA is asked for and there is none.
    """
    import torch

    name = config.train.device
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--train.device cuda: torch finds no CUDA GPU on this machine; leave it out, or give cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and distributed.num_launched() > 1:
        return torch.device(name, int(os.environ["LOCAL_RANK"]))
    return torch.device(name)


def visible_gpus() -> list[str]:
    """The CUDA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: numbers, or UUIDs if it holds those.

    Counts without initialising CUDA.
    """
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(number) for number in range(count)] if named is None else named.split(",")[:count]


def check_precision(train: Train, device: torch.device) -> None:
    """Raise UsageError for a dtype that the device does not compute in: accelerate would ignore fp16 on a CPU."""
    import torch

    old = device.type == "cuda" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(False)
    if train.mixed_precision == "bf16" and old:
        raise UsageError("--train.mixed-precision bf16 is not supported on this GPU: use fp16")
    if train.mixed_precision == "fp16" and device.type == "cpu":
        raise UsageError(
            "--train.mixed-precision fp16 is not supported on a CPU: use bf16, or leave it out for full precision"
        )
