"""Adapter files, ours and those of diffusers, kohya and peft.

`lora` and `prefix` convert one method to and from every format that it has; `native` reads our own
`adapter.safetensors`. Only safetensors files are read; a truncated file, a number that is not finite or a shape that
does not fit is an AdapterError. Nothing here knows the methods' classes: a method hands over tensors, ranks and scales.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.interchange.exported_file import ExportedFile, JsonFile, SafetensorsFile, write

__all__ = ["ExportedFile", "JsonFile", "SafetensorsFile", "write"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'adapters.interchange' has no attribute '{name}'")
    return getattr(import_module("adapters.interchange.exported_file"), name)
