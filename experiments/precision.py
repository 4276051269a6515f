"""The precisions of a run: what its forward passes compute in, and what its base's frozen weights are stored in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from adapters.base import Adapter
from experiments.errors import UsageError
from experiments.training.settings import Train
from tasks.base import Task

if TYPE_CHECKING:
    import torch
    from torch import nn

    from adapters.backbone import Compute
    from tasks.base import PreparedTask

SETTING = "base_precision"  # of a task whose base can be stored in several precisions
HALF = ("bf16", "fp16")


def stored_in(task: Task) -> str:
    """The precision of the base's frozen weights that the task's settings name."""
    return getattr(task, SETTING, None) or "fp32"


def with_stored(task: Task, precision: str | None) -> Task:
    """The task with its base in this precision, None for fp32; unchanged if its base has one precision only."""
    settings: dict[str, Any] = {SETTING: precision}
    return replace(task, **settings) if SETTING in {f.name for f in fields(task)} else task


def with_default_storage(adapter: Adapter, task: Task, train: Train) -> Task:
    """The task with frozen weights in the dtype of the computation, unless the user chose a precision for them.

    Weights that train themselves stay in fp32. Raises UsageError for a precision that cannot work.
    """
    given, compute = getattr(task, SETTING, None), train.mixed_precision
    default = compute if compute in HALF and not adapter.trains_base else None
    if given is None or (given == "fp32" and default is None):  # None: the same run has one name
        return with_stored(task, default)
    if given != "fp32" and adapter.trains_base:
        raise UsageError(
            f"--task.base-precision {given}: the method {adapter.name} trains the base's own weights, which must be "
            "fp32: leave it out"
        )
    if given in HALF and compute != given:
        raise UsageError(
            f"--task.base-precision {given} needs a computation in the same dtype: add --train.mixed-precision {given}"
        )
    return task


def has_default_storage(config: Any) -> bool:
    """Whether the frozen weights of a resolved `RunConfig` are stored as they are where the user chooses nothing."""
    task = with_default_storage(config.adapter, with_stored(config.task, None), config.train)
    return stored_in(task) == stored_in(config.task)


def compute_of(train: Train) -> Compute:
    """The autocast dtype of resolved settings."""
    return train.mixed_precision or "no"


@contextmanager
def computing_in(prepared: PreparedTask, compute: Compute) -> Iterator[None]:
    """A context in which the task calls its model in this autocast dtype, to measure it and to sample from it."""
    before, prepared.backbone.compute = prepared.backbone.compute, compute
    try:
        yield
    finally:
        prepared.backbone.compute = before


@contextmanager
def fast_matmul(device: torch.device) -> Iterator[None]:
    """A context in which products of fp32 numbers are in TF32, where a GPU has it."""
    import torch

    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def weight_dtypes(model: nn.Module) -> list[str]:
    """The dtypes in which a model's parameters are stored; quantised ones are integers."""
    return sorted({str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()})


def precision_key(prepared: PreparedTask) -> dict[str, Any]:
    """What an evaluation of the untuned base depends on beside `evaluation_key`; empty for fp32."""
    compute, stored = prepared.backbone.compute, weight_dtypes(prepared.backbone.model)
    return {} if compute == "no" and stored == ["float32"] else {"compute": compute, "weights": stored}


def is_quantised(model: nn.Module) -> bool:
    """Whether some weights are stored as integers."""
    return any(not parameter.is_floating_point() for parameter in model.parameters())


def merges_exactly(model: nn.Module) -> bool:
    """Whether the weights are fine enough to take up an adapter's change.

    Weights of 16 bits lose changes below half of their last digit, and stay as they are.
    """
    return all(dtype in ("float32", "float64") for dtype in weight_dtypes(model))


def as_record(task: Task, train: Train, device: torch.device) -> dict[str, str]:
    """How a run computes, for its record: training and evaluation are the same."""
    compute = {"no": "fp32", None: "fp32"}.get(train.mixed_precision, train.mixed_precision)
    fast = {"float32_matmul": "high (TF32)"} if device.type == "cuda" else {}
    return {"compute": str(compute), "base": stored_in(task), "trained": "fp32", **fast}
