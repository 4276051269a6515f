"""Published parameter counts beside ours: the project's own adapters on models of the published sizes, no weights."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base import registry as adapter_registry
from tasks.base import registry as task_registry

if TYPE_CHECKING:
    from adapters.base import Adapter, Attachment
    from tasks.base import MetaModel

UNITS = {"K": 10**3, "M": 10**6, "B": 10**9}


@contextmanager
def base_folder(shape: Mapping[str, Any]) -> Iterator[str]:
    """A folder that a task takes as a base: a configuration, no weights."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(shape))
        yield folder


def skeleton_of(base: str, about: Mapping[str, Any]) -> MetaModel:
    """The shapes of a base of the data file: a published one by name, or a shape of its own."""
    task = task_registry()[about["task"]]
    if "shape" not in about:
        return task(**{"base": base}).meta_model()
    with base_folder(about["shape"]) as folder:
        base_of_shape: dict[str, Any] = {"base": folder}
        return task(**base_of_shape).meta_model()


def adapter_of(row: Mapping[str, Any]) -> Adapter:
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in row["settings"].items()}
    return adapter_registry()[row["method"]](**settings)


def count(row: Mapping[str, Any], bases: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table: what is printed, what the formula gives, what our adapter trains, and a verdict."""
    adapter, meta_model = adapter_of(row), skeleton_of(row["base"], bases[row["base"]])
    trained = adapter.attach(meta_model.backbone).parameters().values()
    return judged(row, sum(parameter.numel() for parameter in trained))


def file_bytes(row: Mapping[str, Any], bases: Mapping[str, Any]) -> dict[str, Any]:
    """The same for the bytes of the file that diffusers' training scripts write: its names, nothing but weights."""
    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
    from torch._subclasses.fake_tensor import FakeTensorMode

    from adapters.interchange.exported_file import safetensors_size
    from experiments.measure.file_sizes import exported_weights

    adapter, meta_model = adapter_of(row), skeleton_of(row["base"], bases[row["base"]])
    attachment: Attachment = adapter.attach(meta_model.backbone)
    with FakeTensorMode(allow_non_fake_inputs=True):
        tensors = dict(exported_weights(attachment)[0].tensors)
        return judged(row, safetensors_size(convert_state_dict_to_diffusers(tensors), {"format": "pt"}))


def judged(row: Mapping[str, Any], ours: int) -> dict[str, Any]:
    named = {name: row.get(name) for name in ("where", "what", "base", "method", "settings", "printed", "note")}
    return named | {"by_formula": row["by_formula"], "ours": ours, "verdict": verdict(row, ours)}


def verdict(row: Mapping[str, Any], ours: int) -> str:
    """Ours against the formula, digit for digit; and against what is printed, to its last digit."""
    if ours != row["by_formula"]:
        return f"differs from the formula by {ours - row['by_formula']:+,}"
    printed = row.get("printed")
    if printed is None or agrees(printed, ours):
        return "exact"
    return f"exact; the paper prints {printed}, which is not its own formula"


def agrees(printed: str, value: int) -> bool:
    """Whether a number such as "11.09M" is the value rounded, or cut off, at its last digit."""
    number, unit = printed[:-1], UNITS[printed[-1]]
    last_digit = 10 ** -len(number.partition(".")[2]) * unit
    return -last_digit / 2 <= value - float(number) * unit < last_digit
