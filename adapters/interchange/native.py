"""Our own `adapter.safetensors`: a method's state, with the settings that it was trained with in the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError
from adapters.interchange.tensors import adapter_file, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

NATIVE_FILE = "adapter.safetensors"
SETTINGS = "adapter"  # metadata key: the method's name and settings as JSON
IGNORED = ("init", "dropout")  # settings that do not change what the saved numbers mean
# names in files of release 0.1: settings, and values by setting; as in `reports.upgrade`, which a test compares
RENAMED = {"rank_stabilised": "use_rslora", "initialisation": "init_lora_weights"}
RENAMED_VALUES = {
    "name": {"adapter": "bottleneck", "adapter-truncated": "bottleneck-truncated"},
    "init_lora_weights": {"normal": "gaussian"},
}


def metadata_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of an `adapter.safetensors`; `settings` hold the method's name and its settings."""
    return {SETTINGS: json.dumps(settings)}


def read_native(source: Path, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state in our file, or in the folder that holds it.

    Raises AdapterError if it was saved by another method or with settings other than `settings`.
    """
    file = adapter_file(source, (NATIVE_FILE,))
    tensors, metadata = read_tensors(file)
    saved = saved_settings(metadata, file)
    check_method(saved, settings["name"], file)
    for name, value in json.loads(json.dumps(settings)).items():
        if name not in IGNORED and saved.get(name, value) != value:
            option = name.replace("_", "-")
            raise AdapterError(
                f"'{file}' was saved with --adapter.{option} {saved[name]}, not {value}: "
                "use the settings that it was saved with"
            )
    return tensors


def saved_settings(metadata: Mapping[str, str], file: Path) -> dict[str, Any]:
    """Name and settings in the metadata, under today's names. Raises AdapterError if there are none."""
    try:
        settings = _upgrade(dict(json.loads(metadata[SETTINGS])))
        return {"name": settings["name"], **settings}
    except (KeyError, TypeError, ValueError):
        raise AdapterError(f"'{file}' does not say which method it holds: expected a file that a run saved") from None


def _upgrade(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an earlier release under today's names; options of peft used to be a JSON text."""
    settings = {RENAMED.get(name, name): value for name, value in saved.items()}
    for name, values in RENAMED_VALUES.items():
        if isinstance(settings.get(name), str):
            settings[name] = values.get(settings[name], settings[name])
    if isinstance(settings.get("options"), str):
        settings["options"] = json.loads(settings["options"])
    return settings


def check_method(saved: Mapping[str, Any], method: str, file: Path) -> None:
    """Raise AdapterError if the file is another method's."""
    if saved["name"] != method:
        raise AdapterError(f"'{file}' holds the method '{saved['name']}', not '{method}': choose that method")
