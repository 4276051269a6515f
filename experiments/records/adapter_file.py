"""The trained adapter in a run's folder: `adapter.safetensors`, and the files that other libraries load."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.interchange.native import metadata_of
from experiments.config import RunConfig
from experiments.records.folder import RunFolder, replacing

if TYPE_CHECKING:
    from adapters.base import Attachment
    from adapters.interchange.exported_file import ExportedFile


def adapter_metadata(config: RunConfig) -> dict[str, str]:
    """The metadata of `adapter.safetensors`: the method and its settings."""
    return metadata_of(config.as_record()["adapter"])


def save_adapter(config: RunConfig, folder: RunFolder, attachment: Attachment) -> int:
    """Write `adapter.safetensors` and its export for the model's own library; returns the bytes of the former.

    Raises DiskFull.
    """
    from safetensors.torch import save_file

    state = attachment.state()
    with replacing(folder.adapter_file, sum(tensor.nbytes for tensor in state.values())) as temporary:
        save_file(state, temporary, metadata=adapter_metadata(config))
    write_exports(attachment.export(), folder.path)
    return folder.adapter_file.stat().st_size


def write_exports(files: Iterable[ExportedFile], folder: Path) -> list[Path]:
    """Write each file atomically to `folder`, which is created if needed; returns their paths. Raises DiskFull."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for file in files:
        path = folder / file.name
        with replacing(path, file.size()) as temporary:
            file.save(temporary)
        paths.append(path)
    return paths
