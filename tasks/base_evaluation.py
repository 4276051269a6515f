"""The untuned base's evaluation, which is the same for all runs with the same base, data and evaluation settings.

It is measured once and cached. For the default settings of the tasks on the bundled bases the package ships it
(`python -m tasks.bundled.evaluate` writes those files), and a run on a CPU need not measure it. Both are found by
`PreparedTask.evaluation_key`: another base, picture, setting, evaluation seed or metric version has another key.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.base import Evaluation, Figure, release
from tasks.cache import Result, cached, key_digest
from tasks.distributed import is_main

if TYPE_CHECKING:
    from tasks.base import PreparedTask

SHIPPED = Path(__file__).parent / "bundled" / "base_evaluations"
VERSIONS = ("adapter-testbed", "torch", "diffusers", "transformers")


def base_evaluation(
    prepared: PreparedTask, precision: Mapping[str, Any] | None = None, share: float | None = None
) -> Evaluation:
    """The figures of the prepared task's base, with where and when they were measured.

    `precision` is what they depend on besides `evaluation_key`, None for fp32; shipped figures are of fp32 on a CPU.
    With `share`, the figures are of that part of the items (`PreparedTask.evaluate_part`).
    """

    def compute() -> Result:
        if is_main():
            part = "" if share is None else " for the curves"
            print(f"measuring the untuned base{part} (once for these settings)", file=sys.stderr)
        return measure(prepared, share)

    besides = precision if share is None else {**(precision or {}), "share": share}
    shipped = SHIPPED if not besides and _device(prepared) == "cpu" else None
    artifacts, value = cached("base-evaluation", full_key(prepared, besides), compute, shipped)
    figures = {name: Figure(**record) for name, record in value["figures"].items()}
    return Evaluation(figures, value["items"], artifacts, measured=value.get("measured", {}))


def full_key(prepared: PreparedTask, precision: Mapping[str, Any] | None = None) -> Any:
    key = prepared.evaluation_key
    return {"key": key, **precision} if precision else key


def measure(prepared: PreparedTask, share: float | None = None, **source: Any) -> Result:
    """Evaluate the base: artifacts, and figures and items as JSON values. `source` is kept with the figures."""
    import torch

    evaluation = prepared.evaluate() if share is None else prepared.evaluate_part(share)
    figures = {name: figure.as_record() for name, figure in evaluation.figures.items()}
    machine = {
        "device": _device(prepared),
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # vector width: on another, the last digits differ
    }
    measured = {
        "date": f"{datetime.now():%F}",
        **machine,
        "versions": {name: release(name) for name in VERSIONS},
        **source,
    }
    return evaluation.artifacts, {"figures": figures, "items": evaluation.items, "measured": measured}


def ship(name: str, prepared: PreparedTask, folder: Path = SHIPPED) -> Path:
    """Measure a task's base anew and write the file for the package, in place of the task's earlier one."""
    from safetensors.torch import save_file

    artifacts, value = measure(prepared, source="shipped with the package")
    file = folder / f"{name}-{key_digest(full_key(prepared))}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.glob(f"{name}-*.safetensors"):
        earlier.unlink()
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in artifacts.items()}
    save_file(tensors, file, metadata={"json": json.dumps(value)})
    return file


def _device(prepared: PreparedTask) -> str:
    return next(prepared.backbone.model.parameters()).device.type
