"""accelerate's part of a training: the Accelerator, the module that it wraps, and CUDA's determinism."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from experiments.config import ResolvedTrain
from experiments.process.device import check_precision


class LossModule(nn.Module):
    """The loss as a module, so that data parallel training wraps forward pass and loss as one."""

    def __init__(self, model: nn.Module, loss: Callable[[Any], Tensor]):
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Any) -> Tensor:
        return self.loss(batch)


def make_accelerator(settings: ResolvedTrain, folder: Path | None = None) -> Accelerator:
    """An Accelerator for these settings; one process may create several with different precisions.

    Raises UsageError for a precision that the device does not have.
    """
    on_cpu = settings.device == "cpu" or not torch.cuda.is_available()
    check_precision(settings, torch.device("cpu" if on_cpu else "cuda"))
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=on_cpu,
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        log_with=None if settings.report_to == "none" else settings.report_to,
        project_dir=folder,
        step_scheduler_with_optimizer=False,
    )


@contextlib.contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """A context in which CUDA uses bit-reproducible algorithms, if `wanted`."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
