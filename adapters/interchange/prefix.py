"""A language model's prefix in peft's folder.

peft keeps one row a position with the keys and values of all layers after one another; ours are the same vectors. The
forms agree for language models whose layers are alike. They do not agree for the UNet, which peft has no prefix for;
and an MLP (reparametrisation) travels as the vectors that it computes, as peft itself saves one, so that it cannot
be trained further as an MLP.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adapters.errors import AdapterError
from adapters.interchange import peft_folder
from adapters.interchange.native import OWN_FILE, SETTINGS, read_own
from adapters.interchange.tensors import adapter_file, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.prefix_tuning import PrefixAttachment, PrefixTuning

EMBEDDINGS = "prompt_embeddings"


def write_prefix(attachment: PrefixAttachment, folder: Path, form: str | None = None) -> list[Path]:
    """peft's folder for a language model; nothing for a UNet, or an AdapterError where `form` asks for it."""
    import torch
    from peft import PrefixTuningConfig

    backbone = attachment.backbone
    language = backbone.library == "transformers"
    if form is None and not language:
        return []
    if form not in (None, "peft") or not language:
        raise AdapterError(
            f"a prefix on a model of {backbone.library} has no form '{form}'; peft's is for language models"
        )
    vectors = attachment.vectors()
    rows = [part.transpose(0, 1).flatten(1) for part in vectors.values()]  # (length, heads * head_width) each
    layer = backbone.attention_layers()[0]
    config = PrefixTuningConfig(
        **peft_folder.common(backbone),
        num_virtual_tokens=len(rows[0]),
        num_layers=len(rows) // 2,
        token_dim=layer.heads * layer.head_width,
        num_attention_heads=layer.heads,
        num_transformer_submodules=1,
        prefix_projection=False,
    )
    return peft_folder.save(config, {EMBEDDINGS: torch.cat(rows, dim=1).contiguous()}, folder)


def read_prefix(attachment: PrefixAttachment, source: Path, settings: PrefixTuning) -> None:
    """Take the prefix of one of our own files or of peft's folder. Raises AdapterError where it does not fit."""
    file = adapter_file(source, (OWN_FILE, peft_folder.PEFT_FILE))
    tensors, metadata = read_tensors(file)
    if SETTINGS in metadata:
        attachment.load(read_own(file, settings))
        return
    config = peft_folder.config_beside(file, "PREFIX_TUNING")
    if settings.reparametrisation or config.get("prefix_projection"):
        raise AdapterError(f"'{source}' begins a plain prefix alone: leave the reparametrisation out on both sides")
    attachment.load(_vectors(attachment, tensors, source))


def _vectors(attachment: PrefixAttachment, tensors: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The state that peft's rows are."""
    own = attachment.state()
    length = next(iter(own.values())).shape[1]
    shape = (length, sum(part.numel() for part in own.values()) // length)
    found = tensors.get(EMBEDDINGS)
    if len(tensors) != 1 or found is None or tuple(found.shape) != shape:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise AdapterError(f"'{source}' holds {shapes}, expected {EMBEDDINGS} of shape {shape}: check --adapter.length")
    parts = found.split([part.shape[0] * part.shape[2] for part in own.values()], dim=1)
    return {
        name: rows.unflatten(1, (part.shape[0], part.shape[2])).transpose(0, 1).contiguous()
        for (name, part), rows in zip(own.items(), parts, strict=True)
    }
