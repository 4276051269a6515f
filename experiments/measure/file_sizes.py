"""Bytes of the files that a run would write for its adapter, without writing or even having the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from torch import Tensor

from adapters.base import Attachment
from experiments.config import RunConfig
from experiments.session import adapter_metadata

# the names that the safetensors format gives to number formats, in the order in which its writer puts them
FORMATS = {"torch.int64": "I64", "torch.float32": "F32", "torch.bfloat16": "BF16", "torch.float16": "F16"}


def adapter_files(config: RunConfig, attachment: Attachment) -> dict[str, int]:
    """Bytes by file name: our own file first, then what `export` writes; the tensors may be fake ones."""
    own = safetensors_bytes(attachment.state(), adapter_metadata(config))
    exports = {name: safetensors_bytes(*contents) for name, contents in exported(attachment).items()}
    return {"adapter.safetensors": own} | exports


def exported(attachment: Attachment) -> dict[str, tuple[Mapping[str, Tensor], Mapping[str, str] | None]]:
    """Tensors and metadata of the safetensors files that `export` writes, by file name."""
    found = {}

    def note(tensors: Mapping[str, Tensor], file: Any, metadata: Mapping[str, str] | None = None) -> None:
        found[Path(file).name] = (tensors, metadata)

    with TemporaryDirectory() as folder, patch("safetensors.torch.save_file", note):  # a configuration is written
        attachment.export(Path(folder))
    return found


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> int:
    """The size of a file in the safetensors format: a length of 8 bytes, a header padded to 8, the numbers.

    The header says where each tensor begins and ends, so its own length depends on the order: by format, then name.
    """
    order = list(FORMATS)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (order.index(str(item[1].dtype)), item[0])):
        begin, end = end, end + tensor.numel() * tensor.element_size()
        kind = FORMATS[str(tensor.dtype)]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return 8 + -(-len(text) // 8) * 8 + end
