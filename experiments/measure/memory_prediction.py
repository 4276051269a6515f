"""Peak memory of a training step, predicted for any device with fake tensors: nothing is allocated.

The adapter is attached to the task's meta_model on the meta device; then every parameter and buffer becomes an empty
fake tensor, and two steps as the training loop takes them run under a `MemoryTracker`.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.config import ResolvedTrain, RunConfig, Train
from experiments.measure.device_rules import CPU, Target
from experiments.measure.file_sizes import adapter_files
from experiments.measure.memory_tracker import MemoryTracker
from experiments.training.loop import LossModule
from tasks.base import MetaModel

Format = Literal["fp32", "bf16", "fp16"]
DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STEPS = 2  # the first makes the optimizer's state, the second has it from its start


@dataclass(frozen=True)
class Prediction:
    """Bytes by category at the peak; `frozen_parts` are the task's other models on the device, by name."""

    categories: Mapping[str, int]
    frozen_parts: Mapping[str, int]
    trainable: int  # parameters
    total: int
    files: Mapping[str, int]  # bytes of what a run writes, by name
    shapes: Mapping[str, Any]  # the meta_model's facts
    notes: tuple[str, ...]

    @property
    def peak(self) -> int:
        return sum(self.categories.values()) + sum(self.frozen_parts.values())


def predict(
    config: RunConfig, target: Target = CPU, weights: Format = "fp32", fused_attention: bool = True
) -> Prediction:
    """The peak of a resolved configuration's training step.

    `weights` is the number format of what is frozen; what trains stays in fp32, as in the loop. `--train.mixed-precision` is
    the compute type (autocast). Raises AdapterError or TaskError where the run would.
    """
    meta_model = config.task.meta_model()
    model = meta_model.backbone.model
    attachment = config.adapter.attach(meta_model.backbone)
    owned = attachment.parameters()
    for parameter in set(model.parameters()) - set(owned.values()):
        parameter.data = parameter.data.to(DTYPES[weights])
    parts = {name: count(part) * DTYPES[weights].itemsize for name, part in meta_model.frozen.items()}
    trainable, total = sum(p.numel() for p in owned.values()), count(model)
    with FakeTensorMode(allow_non_fake_inputs=True):  # the attachment holds its tensors of the meta device
        files = adapter_files(config, attachment)
        make_empty(model)
        categories = peak_of_steps(config, meta_model, target, fused_attention)
    return Prediction(categories, parts, trainable, total, files, meta_model.facts, meta_model.notes)


def step_settings(train: Train) -> ResolvedTrain:
    """The settings of single steps: a training's length in epochs, which needs the data, does not matter here."""
    return ResolvedTrain.of(replace(train, steps=train.steps or STEPS, epochs=None))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def make_empty(model: nn.Module) -> None:
    """Put an empty tensor in the place of every parameter and buffer of a model on the meta device.

    Inside FakeTensorMode it is a fake one. What several modules share stays shared; strides are kept.
    """
    made: dict[int, Tensor] = {}

    def empty(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            new = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
            is_parameter = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if is_parameter else new
        return made[id(tensor)]

    for module in list(model.modules()):
        places: Any = (module._parameters, module._buffers)
        for place in places:
            place.update({name: None if tensor is None else empty(tensor) for name, tensor in place.items()})


def peak_of_steps(config: RunConfig, meta_model: MetaModel, target: Target, fused_attention: bool) -> dict[str, int]:
    """Bytes by category at the peak of steps as `experiments.training.loop.Trainer` takes them."""
    settings, device = step_settings(config.train), torch.device("cpu")
    loss = LossModule(meta_model.backbone.model, meta_model.loss).train()
    owned = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(owned, lr=settings.learning_rate, foreach=target.foreach)
    meta_model.backbone.set_gradient_checkpointing(settings.gradient_checkpointing)
    ledger = MemoryTracker(target.granularity)
    ledger.watch(loss, optimizer)
    with ExitStack() as stack:
        for context in (target.rules(), attention(fused_attention), ledger):
            stack.enter_context(context)
        for _ in range(STEPS):
            gc.collect()  # checkpointing leaves cycles; when Python finds them is chance
            for _ in range(settings.gradient_accumulation_steps):
                with autocast(settings.mixed_precision):
                    value = loss(meta_model.batch(settings.batch_size, device))
                # an edge: a call with a tensor would suspend the target's rules, and blocks are computed again in it
                torch.autograd.backward(get_gradient_edge(value), torch.ones_like(value))
                del value  # its graph keeps what checkpointing computes from
            torch.nn.utils.clip_grad_norm_(owned, settings.max_grad_norm, foreach=target.foreach)
            optimizer.step()
            optimizer.zero_grad()
    return ledger.peak


def autocast(precision: str) -> torch.autocast:
    return torch.autocast("cpu", DTYPES.get(precision, torch.float32), enabled=precision != "no")


def attention(fused: bool) -> Any:
    """The kernels of scaled_dot_product_attention: fused where they can be, or the plain products."""
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH] if fused else [SDPBackend.MATH])
