"""LoRA under kohya's names, which most image tools exchange: `lora_unet_<layer>.lora_down.weight`, `.alpha`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from adapters.interchange.exported_file import ExportedFile, SafetensorsFile
from adapters.interchange.factors import Factors
from adapters.interchange.layer_names import kohya_name

if TYPE_CHECKING:
    from adapters.backbone import Backbone

KOHYA_FILE = "lora.safetensors"


def export(layers: Mapping[str, Factors], backbone: Backbone) -> list[ExportedFile]:
    """One A, B and alpha per layer, all with the same alpha; what differs of the scales is in B.

    diffusers (0.42) reads one alpha for all attention layers of such a file, even if they have their own.
    """
    import torch

    tensors = {}
    alpha = Counter(factors.alpha for factors in layers.values()).most_common(1)[0][0]
    for name, factors in layers.items():
        key, folded = kohya_name(name, backbone), factors.alpha / alpha
        tensors[f"{key}.lora_down.weight"] = factors.down
        tensors[f"{key}.lora_up.weight"] = factors.up if folded == 1 else factors.up * folded
        tensors[f"{key}.alpha"] = torch.tensor(float(alpha))
    return [SafetensorsFile(KOHYA_FILE, tensors)]
