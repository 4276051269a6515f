"""Checkpoints from which a training resumes bit for bit: one safetensors file, no pickle.

Its tensors are `parameters.NAME`, `average.NAME`, `method.NAME`, `optimizer.INDEX.NAME` (with several names where the
optimizer nests its state) and `generator.NAME`; the rest is JSON in its metadata.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from experiments.errors import UsageError
from experiments.records.folder import replacing
from experiments.records.provenance import processor

if TYPE_CHECKING:
    from accelerate.optimizer import AcceleratedOptimizer
    from torch.amp.grad_scaler import GradScaler
    from torch.optim.lr_scheduler import LRScheduler

    from adapters.base import Attachment

FILE = "state.safetensors"
# raised while a damaged file is loaded into torch, numpy and Python's generators
UNREADABLE = (OSError, SafetensorError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError)


@dataclass(frozen=True)
class Progress:
    """The position of a training. `peak` is its peak memory so far and how it was measured."""

    step: int = 0
    batches: int = 0  # drawn so far, by all processes
    log_bytes: int = 0  # length of the step log
    seconds: float = 0.0
    curve_seconds: float = 0.0
    peak: Mapping[str, Any] | None = None
    made_with: Mapping[str, Any] | None = None  # its `conditions`


@dataclass(frozen=True)
class Parts:
    """The stateful parts of a training; `averages` of the parameters if the run has them."""

    owned: Mapping[str, nn.Parameter]
    optimizer: AcceleratedOptimizer
    schedule: LRScheduler
    scaler: GradScaler | None
    averages: Mapping[str, Tensor] = field(default_factory=dict)
    attachment: Attachment | None = None  # with the state of the method's own steps


def conditions(device: torch.device) -> dict[str, str | int]:
    """What the last bits of a result depend on besides the configuration."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": f"{device.type}: {kind}"}


def save(folder: Path, parts: Parts, progress: Progress) -> int:
    """Write a checkpoint atomically: the previous one survives a crash. Returns its bytes. Raises DiskFull."""
    folder.mkdir(exist_ok=True)
    optimizer = parts.optimizer.state_dict()
    tensors = {f"parameters.{name}": p.detach() for name, p in parts.owned.items()}
    tensors |= {f"average.{name}": average for name, average in parts.averages.items()}
    if parts.attachment is not None:
        tensors |= {f"method.{name}": tensor for name, tensor in parts.attachment.training_state().items()}
    moments = _flat("optimizer", optimizer["state"])
    tensors |= {name: value for name, value in moments.items() if isinstance(value, Tensor)}
    tensors |= {f"generator.{name}": state for name, state in _torch_generators().items()}
    rest = {
        "progress": asdict(progress),
        "optimizer": optimizer["param_groups"],
        "counts": {name: value for name, value in moments.items() if not isinstance(value, Tensor)},
        "schedule": parts.schedule.state_dict(),
        "scaler": None if parts.scaler is None else parts.scaler.state_dict(),
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
    }
    tensors = _apart({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    needed = sum(tensor.nbytes for tensor in tensors.values())
    with replacing(folder / FILE, needed) as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(rest, default=_as_list)})
    return needed


def load(folder: Path, parts: Parts) -> Progress:
    """Restore the saved state; without a checkpoint, nothing changes and the progress is that of a new training.

    Raises UsageError if the file is damaged or belongs to another model.
    """
    if not (folder / FILE).exists():
        return Progress()
    try:
        tensors, rest = _read(folder / FILE)
        _restore("parameters", parts.owned, tensors)
        _restore("average", parts.averages, tensors)
        if parts.attachment is not None:
            prefix = "method."
            state = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            parts.attachment.load_training_state(state)
        parts.optimizer.load_state_dict(_optimizer_state(parts.owned, tensors, rest))
        parts.schedule.load_state_dict(rest["schedule"])
        if parts.scaler is not None and rest["scaler"] is not None:
            parts.scaler.load_state_dict(rest["scaler"])
        _restore_generators(tensors, rest)
        return Progress(**rest["progress"])
    except UNREADABLE as broken:
        raise _unusable(folder, broken) from broken


def load_parameters(folder: Path, owned: Mapping[str, nn.Parameter]) -> int | None:
    """Restore the trained parameters of the last checkpoint; returns its step, or None without a checkpoint."""
    if not (folder / FILE).exists():
        return None
    try:
        tensors, rest = _read(folder / FILE)
        _restore("parameters", owned, tensors)
        return rest["progress"]["step"]
    except UNREADABLE as broken:
        raise _unusable(folder, broken) from broken


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(str(file), "pt") as saved:
        return {name: saved.get_tensor(name) for name in saved.keys()}, json.loads(saved.metadata()["state"])  # noqa: SIM118


def _restore(kind: str, values: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            value.copy_(tensors[f"{kind}.{name}"].view(value.shape))


def _flat(name: str, state: Any) -> dict[str, Any]:
    """Leaves of nested dictionaries by path. bitsandbytes nests its quantised moments, and counts steps in integers."""
    if not isinstance(state, Mapping):
        return {name: state}
    return {path: leaf for key, value in state.items() for path, leaf in _flat(f"{name}.{key}", value).items()}


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with a storage each, as safetensors asks: bitsandbytes' share their table of values."""
    seen: dict[int, str] = {}
    return {
        name: tensor if seen.setdefault(tensor.untyped_storage().data_ptr(), name) == name else tensor.clone()
        for name, tensor in tensors.items()
    }


def _optimizer_state(owned: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor], rest: Any) -> dict[str, Any]:
    """The optimizer's state dict. Moments get their parameter's memory layout, which the file does not store."""
    states: dict[int, dict[str, Any]] = {}
    parameters = list(owned.values())
    for name, value in {**tensors, **rest["counts"]}.items():
        if name.startswith("optimizer."):
            _, index, *path, last = name.split(".")
            like, state = parameters[int(index)], states.setdefault(int(index), {})
            for key in path:
                state = state.setdefault(key, {})
            shaped = isinstance(value, Tensor) and value.shape == like.shape
            state[last] = torch.empty_like(like, dtype=value.dtype).copy_(value) if shaped else value
    return {"state": states, "param_groups": rest["optimizer"]}


def _torch_generators() -> dict[str, Tensor]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state()} | {f"cuda{i}": state for i, state in enumerate(cuda)}


def _restore_generators(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
    torch.set_rng_state(tensors["generator.cpu"])
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"generator.cuda{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"generator.cuda{i}"], i)
    version, numbers, gauss = rest["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(rest["numpy"])


def _as_list(value: Any) -> list:
    """Encode the array in numpy's generator state for JSON."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"a checkpoint cannot store a {type(value).__name__}")


def _unusable(folder: Path, why: Exception) -> UsageError:
    reason = (str(why).splitlines() or [type(why).__name__])[0]
    return UsageError(f"the checkpoint in '{folder}' cannot be read ({reason}): --overwrite repeats the run")
