"""Tensors from safetensors files: the only kind of file that adapters are read from, since reading it runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by name, on the CPU, and the file's metadata.

    Raises AdapterError where the file is missing, is not whole safetensors, is empty, or holds a value that is not a
    finite floating-point number.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise AdapterError(f"'{file}' is no file: name an adapter's safetensors file or its folder")
    if file.suffix != ".safetensors":
        raise AdapterError(
            f"'{file}' is not read, since a '{file.suffix}' file may run code: convert it to safetensors"
        )
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no mapping)
            metadata = dict(opened.metadata() or {})
    except (SafetensorError, OSError, ValueError) as damage:
        reason = str(damage).strip().split("\n")[0]
        raise AdapterError(f"'{file}' is not a whole safetensors file ({reason}): fetch or save it again") from None
    check_numbers(tensors, file)
    return tensors, metadata


def check_numbers(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Raise AdapterError unless there are tensors and every number in them is finite."""
    if not tensors:
        raise AdapterError(f"'{file}' holds no tensor: name the adapter's own file")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise AdapterError(
                f"'{file}' holds numbers that are not finite in '{name}': the training that wrote it failed"
            )


def adapter_file(source: Path, names: tuple[str, ...]) -> Path:
    """`source` where it is a file, else the first of `names` in that folder.

    Raises AdapterError where none is there.
    """
    if source.is_file():
        return source
    if not source.is_dir():
        raise AdapterError(f"there is no file or folder '{source}': name an adapter's safetensors file or its folder")
    found = [source / name for name in names if (source / name).is_file()]
    if not found:
        raise AdapterError(f"the folder '{source}' holds no adapter: expected {' or '.join(names)} in it")
    return found[0]
