"""Our own `adapter.safetensors`: a method's state, with the settings that it was saved with in the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError
from adapters.interchange.tensors import adapter_file, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.base import Adapter

OWN_FILE = "adapter.safetensors"
SETTINGS = "adapter"  # metadata: the method's name and settings as JSON
WITHOUT_EFFECT = ("init", "dropout")  # settings that change nothing in what the numbers mean


def read_own(source: Path, adapter: Adapter) -> dict[str, Tensor]:
    """The state in our file (or in a run's folder). Raises AdapterError unless method and settings are `adapter`'s."""
    file = adapter_file(source, (OWN_FILE,))
    tensors, metadata = read_tensors(file)
    saved = settings_in(metadata, file)
    check_method(saved, adapter.name, file)
    now = json.loads(json.dumps(asdict(adapter)))
    for name, value in now.items():
        if name not in WITHOUT_EFFECT and saved.get(name, value) != value:
            option = name.replace("_", "-")
            raise AdapterError(
                f"'{file}' was saved with --adapter.{option} {saved[name]}, not {value}: "
                "give the settings that it was saved with"
            )
    return tensors


def settings_in(metadata: Mapping[str, str], file: Path) -> dict[str, Any]:
    """The settings in the metadata, the method's name among them. Raises AdapterError where there are none."""
    try:
        settings = json.loads(metadata[SETTINGS])
        return {"name": settings["name"], **settings}
    except (KeyError, TypeError, json.JSONDecodeError):
        raise AdapterError(
            f"'{file}' does not say which method it holds: expected a file that a run has saved"
        ) from None


def check_method(saved: Mapping[str, Any], method: str, file: Path) -> None:
    """Raise AdapterError where the file is another method's."""
    if saved["name"] != method:
        raise AdapterError(f"'{file}' holds the method '{saved['name']}', not '{method}': take that method")
