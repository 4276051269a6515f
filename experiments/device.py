"""The device of a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from experiments.config import RunConfig
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
