"""Published parameter counts and file sizes beside ours: this project's adapters on models without weights."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base import adapter_registry
from tasks.base import task_registry

if TYPE_CHECKING:
    from adapters.base import Adapter, Attachment
    from tasks.base import MetaModel

UNITS = {"K": 10**3, "M": 10**6, "B": 10**9}


def meta_model_of(base: str, description: Mapping[str, Any]) -> MetaModel:
    """The meta model of a base in the data file: a published base by its name, or a configuration given there."""
    task: Any = task_registry()[description["task"]]
    if "shape" not in description:
        return task(base=base).meta_model()
    with tempfile.TemporaryDirectory() as folder:  # a configuration without weights is a base too
        (Path(folder) / "config.json").write_text(json.dumps(description["shape"]))
        return task(base=folder).meta_model()


def adapter_of(row: Mapping[str, Any]) -> Adapter:
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in row["settings"].items()}
    return adapter_registry()[row["method"]](**settings)


def compare_parameter_count(row: Mapping[str, Any], bases: Mapping[str, Any]) -> dict[str, Any]:
    """The printed number, the formula's, the number that our adapter trains, and a verdict."""
    adapter, meta_model = adapter_of(row), meta_model_of(row["base"], bases[row["base"]])
    trained = adapter.attach(meta_model.backbone).parameters().values()
    return compare(row, sum(parameter.numel() for parameter in trained))


def compare_file_size(row: Mapping[str, Any], bases: Mapping[str, Any]) -> dict[str, Any]:
    """The same for the bytes of the file that diffusers' training scripts write: only weights, under its names."""
    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
    from torch._subclasses.fake_tensor import FakeTensorMode

    from adapters.interchange.exported_file import safetensors_size
    from experiments.measure.file_sizes import exported_weights

    adapter, meta_model = adapter_of(row), meta_model_of(row["base"], bases[row["base"]])
    attachment: Attachment = adapter.attach(meta_model.backbone)
    with FakeTensorMode(allow_non_fake_inputs=True):
        tensors = dict(exported_weights(attachment)[0].tensors)
        return compare(row, safetensors_size(convert_state_dict_to_diffusers(tensors), {"format": "pt"}))


def compare(row: Mapping[str, Any], ours: int) -> dict[str, Any]:
    """A row of the result: the published row with our number and the verdict."""
    columns = {name: row.get(name) for name in ("where", "what", "base", "method", "settings", "printed", "note")}
    return columns | {"by_formula": row["by_formula"], "ours": ours, "verdict": verdict(row, ours)}


def verdict(row: Mapping[str, Any], ours: int) -> str:
    """Our number against the formula, to the digit, and against the printed number, to its last digit."""
    if ours != row["by_formula"]:
        return f"differs from the formula by {ours - row['by_formula']:+,}"
    printed = row.get("printed")
    if printed is None or agrees(printed, ours):
        return "exact"
    return f"exact; the paper prints {printed}, which is not its own formula"


def agrees(printed: str, value: int) -> bool:
    """Whether a printed number such as "11.09M" is the value rounded or cut off at its last digit."""
    number, unit = printed[:-1], UNITS[printed[-1]]
    last_digit = 10 ** -len(number.partition(".")[2]) * unit
    return -last_digit / 2 <= value - float(number) * unit < last_digit
