"""Our LoRA in the files of other tools: diffusers' `pytorch_lora_weights.safetensors`, peft's adapter folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.lora import LoraAttachment

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
DIFFUSERS_METADATA = "lora_adapter_metadata"


def export_lora(attachment: LoraAttachment, folder: Path) -> list[Path]:
    """Write the form that the model's own library loads with no further step; the files written."""
    if attachment.backbone.library != "diffusers":
        return []
    return [_export_diffusers(attachment, folder / DIFFUSERS_FILE)]


def _export_diffusers(attachment: LoraAttachment, file: Path) -> Path:
    """Keys `unet.<layer>.lora_A.weight`; rank and alpha of every layer in the metadata, as peft's LoraConfig.

    Without the metadata diffusers takes alpha = rank and the pictures are silently wrong.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for update in attachment.updates.values():
        name = update.projection.name
        tensors[f"unet.{name}.lora_A.weight"] = update[update.down_name].detach().cpu().contiguous()
        tensors[f"unet.{name}.lora_B.weight"] = update[update.up_name].detach().cpu().contiguous()
        ranks[name] = update.rank
        alphas[name] = update.scaling * update.rank  # whatever the scaling rule was, alpha / rank gives it back
    rank = next(iter(ranks.values()))
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alphas[next(iter(alphas))],
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alphas[next(iter(alphas))]},
        "target_modules": sorted(ranks),
    }
    metadata = {f"unet.{name}": value for name, value in config.items()}
    save_file(tensors, file, metadata={DIFFUSERS_METADATA: json.dumps(metadata), "format": "pt"})
    return file
