"""A language model's prefix in peft's folder.

peft stores one row per position, the keys and values of all layers side by side; ours are the same vectors. The
formats agree for language models whose layers are alike, but not for the UNet, for which peft has no prefix. A prefix
computed by an MLP (reparametrisation) is exported as the vectors that the MLP computes, as peft itself saves it, so
it can no longer be trained through the MLP.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError
from adapters.interchange import peft_folder
from adapters.interchange.exported_file import ExportedFile
from adapters.interchange.native import NATIVE_FILE, SETTINGS, read_native
from adapters.interchange.tensors import adapter_file, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone

EMBEDDINGS = "prompt_embeddings"


def export_prefix(vectors: Mapping[str, Tensor], backbone: Backbone, format: str | None = None) -> list[ExportedFile]:
    """peft's folder for a language model; for a UNet an empty list, or an AdapterError if a format is asked for.

    `vectors` are keys and values, layer by layer, each of shape (heads, length, head_width).
    """
    import torch
    from peft import PrefixTuningConfig

    language = backbone.library == "transformers"
    if format is None and not language:
        return []
    if format not in (None, "peft") or not language:
        raise AdapterError(
            f"a prefix on a {backbone.library} model has no format '{format}': only peft's, for language models, exists"
        )
    rows = [part.transpose(0, 1).flatten(1) for part in vectors.values()]  # (length, heads * head_width) each
    layer = backbone.attention_layers()[0]
    config = PrefixTuningConfig(
        **peft_folder.model_settings(backbone),
        num_virtual_tokens=len(rows[0]),
        num_layers=len(rows) // 2,
        token_dim=layer.heads * layer.head_width,
        num_attention_heads=layer.heads,
        num_transformer_submodules=1,
        prefix_projection=False,
    )
    return peft_folder.files(config, {EMBEDDINGS: torch.cat(rows, dim=1).contiguous()})


def read_prefix(source: Path, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The prefix in one of our own files or in peft's folder, in the form of `state`, the attached prefix's.

    `settings` are the method's name and its settings. Raises AdapterError if the source does not fit them.
    """
    file = adapter_file(source, (NATIVE_FILE, peft_folder.PEFT_FILE))
    tensors, metadata = read_tensors(file)
    if SETTINGS in metadata:
        return read_native(file, settings)
    config = peft_folder.config_beside(file, "PREFIX_TUNING")
    if settings["reparametrisation"] or config.get("prefix_projection"):
        raise AdapterError(
            f"'{source}' can only start a plain prefix: use neither --adapter.reparametrisation nor prefix_projection"
        )
    return _split(tensors, state, source)


def _split(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """peft's rows by layer and part."""
    length = next(iter(state.values())).shape[1]
    shape = (length, sum(part.numel() for part in state.values()) // length)
    embeddings = tensors.get(EMBEDDINGS)
    if len(tensors) != 1 or embeddings is None or tuple(embeddings.shape) != shape:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise AdapterError(f"'{source}' holds {shapes}, expected {EMBEDDINGS} of shape {shape}: check --adapter.length")
    parts = embeddings.split([part.shape[0] * part.shape[2] for part in state.values()], dim=1)
    return {
        name: rows.unflatten(1, (part.shape[0], part.shape[2])).transpose(0, 1).contiguous()
        for (name, part), rows in zip(state.items(), parts, strict=True)
    }
