"""Peak memory of a training step, predicted for any device with fake tensors: nothing is allocated.

The adapter is attached to the task's model on the meta device; every parameter and buffer then becomes an empty fake
tensor, and two steps equal to those of the training loop run under a `MemoryTracker`.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.config import ResolvedTrain, RunConfig
from experiments.measure.device_rules import CPU, DeviceRules
from experiments.measure.file_sizes import adapter_files
from experiments.training.accelerator import LossModule
from experiments.training.memory_tracker import MemoryTracker
from tasks.base import MetaModel

StorageDtype = Literal["fp32", "bf16", "fp16"]
DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STEPS = 2  # the first creates the optimizer state, the second starts with it


@dataclass(frozen=True)
class Prediction:
    """Bytes by category at the peak; `frozen_parts` are the task's other frozen models on the device, by name."""

    categories: Mapping[str, int]
    frozen_parts: Mapping[str, int]
    trainable: int  # number of parameters
    total: int
    files: Mapping[str, int]  # bytes of the adapter files that a run writes, by name
    shapes: Mapping[str, Any]  # the base and the input shapes, from the meta model's facts
    notes: tuple[str, ...]

    @property
    def peak(self) -> int:
        return sum(self.categories.values()) + sum(self.frozen_parts.values())


def predict(
    config: RunConfig, rules: DeviceRules = CPU, weights: StorageDtype = "fp32", fused_attention: bool = True
) -> Prediction:
    """Predict the peak memory of a resolved configuration's training step.

    `weights` is the storage dtype of the frozen weights; trained weights stay in fp32, as in the loop. The autocast
    dtype is `config.train.mixed_precision`. Raises AdapterError or TaskError if the run itself would.
    """
    meta_model = config.task.meta_model()
    model = meta_model.backbone.model
    attachment = config.adapter.attach(meta_model.backbone)
    owned = attachment.parameters()
    for parameter in set(model.parameters()) - set(owned.values()):
        parameter.data = parameter.data.to(DTYPES[weights])
    parts = {name: count(part) * DTYPES[weights].itemsize for name, part in meta_model.frozen.items()}
    trainable, total = sum(p.numel() for p in owned.values()), count(model)
    with FakeTensorMode(allow_non_fake_inputs=True):  # the attachment still holds tensors on the meta device
        files = adapter_files(config, attachment)
        make_empty(model)
        categories = peak_of_steps(config, meta_model, rules, fused_attention)
    return Prediction(categories, parts, trainable, total, files, meta_model.facts, meta_model.notes)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def make_empty(model: nn.Module) -> None:
    """Replace every parameter and buffer of a model on the meta device by an empty tensor with the same strides.

    Inside FakeTensorMode the new tensors are fake. Tensors shared between modules stay shared.
    """
    replaced: dict[int, Tensor] = {}

    def empty(tensor: Tensor) -> Tensor:
        if id(tensor) not in replaced:
            new = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
            is_parameter = isinstance(tensor, nn.Parameter)
            replaced[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if is_parameter else new
        return replaced[id(tensor)]

    for module in list(model.modules()):
        tensors: Any = (module._parameters, module._buffers)
        for named in tensors:
            named.update({name: None if tensor is None else empty(tensor) for name, tensor in named.items()})


def peak_of_steps(config: RunConfig, meta_model: MetaModel, rules: DeviceRules, fused: bool) -> dict[str, int]:
    """Bytes by category at the peak of steps equal to those of `experiments.training.loop.Trainer`."""
    settings, device = ResolvedTrain.of_steps(config.train, STEPS), torch.device("cpu")
    loss = LossModule(meta_model.backbone.model, meta_model.loss).train()
    owned = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(owned, lr=settings.learning_rate, foreach=rules.foreach)
    meta_model.backbone.set_gradient_checkpointing(settings.gradient_checkpointing)
    tracker = MemoryTracker(rules.granularity)
    tracker.watch(loss, optimizer)
    with ExitStack() as stack:
        for context in (rules.autocast(), attention_kernels(fused), tracker):
            stack.enter_context(context)
        for _ in range(STEPS):
            gc.collect()  # checkpointing leaves reference cycles, which Python collects at arbitrary moments
            for _ in range(settings.gradient_accumulation_steps):
                with autocast(settings.mixed_precision):
                    value = loss(meta_model.batch(settings.batch_size, device))
                # by its gradient edge: backward() on the tensor would suspend the device rules, under which blocks
                # have to be recomputed
                torch.autograd.backward(get_gradient_edge(value), torch.ones_like(value))
                del value  # its graph holds the inputs of checkpointed blocks
            torch.nn.utils.clip_grad_norm_(owned, settings.max_grad_norm, foreach=rules.foreach)
            optimizer.step()
            optimizer.zero_grad()
    return tracker.peak


def autocast(precision: str) -> torch.autocast:
    return torch.autocast("cpu", DTYPES.get(precision, torch.float32), enabled=precision != "no")


def attention_kernels(fused: bool) -> Any:
    """A context that selects the kernels of scaled_dot_product_attention: fused if possible, else plain products."""
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH] if fused else [SDPBackend.MATH])
