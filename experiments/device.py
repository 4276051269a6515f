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


def check_precision(train: Train, device: torch.device) -> None:
    """Raise UsageError for fp16 on a CPU: accelerate would ignore it and compute in fp32."""
    if train.mixed_precision == "fp16" and device.type == "cpu":
        raise UsageError(
            "--train.mixed-precision fp16 is not supported on a CPU: use bf16, or leave it out for full precision"
        )
