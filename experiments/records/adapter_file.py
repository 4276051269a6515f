"""The trained adapter in a run's folder: `adapter.safetensors`, and the files that other libraries load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.interchange.exported_file import write
from adapters.interchange.native import metadata_of
from experiments.config import RunConfig
from experiments.records.folder import RunFolder, replacing

if TYPE_CHECKING:
    from adapters.base import Attachment


def adapter_metadata(config: RunConfig) -> dict[str, str]:
    """The metadata of `adapter.safetensors`: the method and its settings."""
    return metadata_of(config.as_record()["adapter"])


def save_adapter(config: RunConfig, folder: RunFolder, attachment: Attachment) -> int:
    """Write `adapter.safetensors` and its export for the model's own library; returns the bytes of the former."""
    from safetensors.torch import save_file

    state = attachment.state()
    with replacing(folder.adapter_file, sum(tensor.nbytes for tensor in state.values())) as temporary:
        save_file(state, temporary, metadata=adapter_metadata(config))
    write(attachment.export(), folder.path)
    return folder.adapter_file.stat().st_size
