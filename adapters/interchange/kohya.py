"""LoRA under kohya's names, which most image tools exchange: `lora_unet_<layer>.lora_down.weight`, `.alpha`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.interchange.exported_file import ExportedFile, SafetensorsFile
from adapters.interchange.factors import Factors
from adapters.interchange.lora_keys import layers_in, qualified

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone

KOHYA_FILE = "lora.safetensors"
PREFIXES = {"unet": ("lora_unet_",), "text_encoder": ("lora_te_text_model_", "lora_te1_text_model_")}


def export(layers: Mapping[str, Factors], backbone: Backbone) -> list[ExportedFile]:
    """One A, B and alpha per layer; the alphas make further metadata unnecessary."""
    import torch

    tensors = {}
    for name, factors in layers.items():
        key = aliases(name, backbone)[0]
        tensors[f"{key}.lora_down.weight"] = factors.down
        tensors[f"{key}.lora_up.weight"] = factors.up
        tensors[f"{key}.alpha"] = torch.tensor(float(factors.alpha))
    return [SafetensorsFile(KOHYA_FILE, tensors)]


def read(tensors: Mapping[str, Tensor], file: Path, backbone: Backbone) -> dict[str, Factors]:
    """The updates under the model's names; a layer without alpha has scale 1, as in kohya's own loader."""
    names = {alias: n for n, _ in backbone.model.named_modules() if n for alias in aliases(n, backbone)}
    factors = {}
    for name, layer in layers_in(tensors, file).items():
        rank = layer.down.shape[0]
        factors[names.get(name, name)] = Factors(layer.down, layer.up, (layer.alpha or rank) / rank)
    return factors


def aliases(name: str, backbone: Backbone) -> list[str]:
    """kohya's names for a layer. They turn dots into underscores, so only the model can map them back."""
    component, _, rest = qualified(name, backbone).partition(".")
    rest = rest.removeprefix("text_model.").replace(".", "_")
    return [prefix + rest for prefix in PREFIXES.get(component, ())]
