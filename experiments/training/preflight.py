"""What can be checked of a run before its base is loaded and its folder exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.base import attach
from adapters.errors import AdapterError, ForeignMethodError
from experiments.config import RunConfig
from experiments.precision import SETTING
from experiments.process.device import check_precision, device_of
from tasks.base import Task
from tasks.errors import TaskError
from tasks.pretrained.precision import check_quantisation

if TYPE_CHECKING:
    from adapters.backbone import Backbone


def check_before_loading(config: RunConfig) -> None:
    """Raise UsageError, TaskError or AdapterError for what cannot work on this machine or on the task's model."""
    device = device_of(config)
    check_precision(config.train, device)
    check_quantisation(getattr(config.task, SETTING, None), device)
    if config.train.compile:
        from experiments.training.compilation import check_compiler

        check_compiler(device)
    backbone = _shapes(config.task)
    if backbone is not None:
        _check_attaching(config, backbone)


def _shapes(task: Task) -> Backbone | None:
    """The task's model on the meta device; None if the task does not describe it."""
    if type(task).meta_model is Task.meta_model:
        return None
    try:
        return task.meta_model().backbone
    except TaskError:  # the real base may be available without a description of its shapes
        return None


def _check_attaching(config: RunConfig, backbone: Backbone) -> None:
    """Attach the adapter to a model without weights, in milliseconds.

    Another library's method may fail there and work on the real model, which has values: the run itself shows that.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        try:
            attach(config.adapter, backbone)
        except ForeignMethodError:
            return
        except AdapterError:
            raise
        except Exception:  # another package's method
            return
