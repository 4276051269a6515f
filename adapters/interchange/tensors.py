"""Reading adapter tensors: from safetensors files only, because loading one runs no code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError, first_line

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
PICKLED = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")  # suffixes of files that torch.load reads


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """safetensors' reader of the file. Raises AdapterError if the file is missing, damaged or of another kind."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise AdapterError(f"no such file: '{file}'; pass an adapter's .safetensors file or its folder")
    if file.suffix.lower() in PICKLED:
        raise AdapterError(
            f"'{file}' is not read, because a '{file.suffix}' file may run code: convert it to safetensors"
        )
    if file.suffix != SUFFIX:
        raise AdapterError(f"'{file}' is not a {SUFFIX} file: pass an adapter's {SUFFIX} file or its folder")
    try:
        with safe_open(file, framework="pt", device="cpu") as reader:
            yield reader
    except (SafetensorError, OSError, ValueError) as damage:
        raise AdapterError(
            f"'{file}' is not a complete safetensors file ({first_line(damage)}): download or save it again"
        ) from None


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by name, on the CPU, and the file's metadata.

    Raises AdapterError if the file is missing, damaged or empty, or if it holds a number that is not finite.
    """
    with opened(file) as reader:
        tensors = {name: readable(reader.get_tensor(name)) for name in reader.keys()}  # noqa: SIM118  (not a mapping)
        metadata = dict(reader.metadata() or {})
    check_numbers(tensors, file)
    return tensors, metadata


def readable(tensor: Tensor) -> Tensor:
    """float8 in fp32, since torch computes nothing with it; other formats unchanged."""
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor


def check_numbers(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Raise AdapterError unless there are tensors and every number in them is finite."""
    if not tensors:
        raise AdapterError(f"'{file}' holds no tensors: pass the file with the adapter's weights")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise AdapterError(
                f"'{file}' holds numbers that are not finite in '{name}': the training that wrote it failed"
            )


def adapter_file(source: Path, names: tuple[str, ...]) -> Path:
    """`source` itself if it is a file, else the first of `names` that the folder holds.

    Raises AdapterError if there is no such file.
    """
    if source.is_file():
        return source
    if not source.is_dir():
        raise AdapterError(f"no such file or folder: '{source}'; pass an adapter's .safetensors file or its folder")
    files = [source / name for name in names if (source / name).is_file()]
    if not files:
        raise AdapterError(f"the folder '{source}' holds no adapter: expected {' or '.join(names)} in it")
    return files[0]
