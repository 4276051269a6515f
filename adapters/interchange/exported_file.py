"""Files that an adapter exports, as data: named, with a size that is known before anything is written."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# number formats by their name in a safetensors file, in the order in which its writer sorts tensors
SAFETENSORS_DTYPES = {
    "torch.int64": "I64",
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.int32": "I32",
    "torch.bfloat16": "BF16",
    "torch.float16": "F16",
    "torch.int16": "I16",
    "torch.int8": "I8",
    "torch.uint8": "U8",
    "torch.bool": "BOOL",
}


@dataclass(frozen=True)
class ExportedFile(ABC):
    """One file: its name, its content, its size."""

    name: str

    @abstractmethod
    def size(self) -> int:
        """Size of the file in bytes."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the content to `path`, not atomically: `experiments.records.adapter_file` does that."""


@dataclass(frozen=True)
class SafetensorsFile(ExportedFile):
    """Tensors by name, with the file's metadata. `size()` works for fake and meta tensors too."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=lambda: {"format": "pt"})

    def size(self) -> int:
        return safetensors_size(self.tensors, self.metadata)

    def save(self, path: Path) -> None:
        from safetensors.torch import save_file

        save_file(dict(self.tensors), path, metadata=dict(self.metadata))


@dataclass(frozen=True)
class JsonFile(ExportedFile):
    """A JSON file, already encoded: another library decides on its layout."""

    text: str

    def size(self) -> int:
        return len(self.text.encode())

    def save(self, path: Path) -> None:
        path.write_text(self.text)


def safetensors_size(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> int:
    """Bytes of a safetensors file: 8 for the header's length, a JSON header padded to 8, the tensors' numbers.

    The header holds the offsets of each tensor, so its length depends on their order: by number format, then name.
    """
    order = list(SAFETENSORS_DTYPES)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (order.index(str(item[1].dtype)), item[0])):
        start, end = end, end + tensor.numel() * tensor.element_size()
        dtype = SAFETENSORS_DTYPES[str(tensor.dtype)]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return 8 + -(-len(text) // 8) * 8 + end
