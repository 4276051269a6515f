"""Sizes of the files that a run would write for its adapter, without writing anything or allocating the weights."""

from __future__ import annotations

from adapters.base import Attachment
from adapters.interchange.exported_file import SafetensorsFile
from adapters.interchange.native import NATIVE_FILE
from experiments.config import RunConfig
from experiments.records.adapter_file import adapter_metadata


def adapter_files(config: RunConfig, attachment: Attachment) -> dict[str, int]:
    """Bytes by file name: our own file, then the safetensors files that `export` makes. Fake tensors will do."""
    native = SafetensorsFile(NATIVE_FILE, attachment.state(), adapter_metadata(config))
    return {file.name: file.size() for file in (native, *exported_weights(attachment))}


def exported_weights(attachment: Attachment) -> list[SafetensorsFile]:
    """The safetensors files of the format that the model's own library loads."""
    return [file for file in attachment.export() if isinstance(file, SafetensorsFile)]
