"""LoRA in kohya's names, which most tools for pictures exchange: `lora_unet_<layer>.lora_down.weight`, `.alpha`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.interchange.factors import Factors
from adapters.interchange.lora_keys import layers_in, qualified

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone

KOHYA_FILE = "lora.safetensors"
PREFIXES = {"unet": ("lora_unet_",), "text_encoder": ("lora_te_text_model_", "lora_te1_text_model_")}


def write(layers: Mapping[str, Factors], backbone: Backbone, folder: Path) -> list[Path]:
    """One A, B and alpha a layer; the file holds no other metadata than these need."""
    import torch
    from safetensors.torch import save_file

    tensors = {}
    for name, found in layers.items():
        key = aliases(name, backbone)[0]
        tensors[f"{key}.lora_down.weight"] = found.down
        tensors[f"{key}.lora_up.weight"] = found.up
        tensors[f"{key}.alpha"] = torch.tensor(float(found.alpha))
    file = folder / KOHYA_FILE
    save_file(tensors, file, metadata={"format": "pt"})
    return [file]


def read(tensors: Mapping[str, Tensor], file: Path, backbone: Backbone) -> dict[str, Factors]:
    """The updates by the model's names; a layer without alpha has the scale 1, as in kohya's own loader."""
    names = {alias: n for n, _ in backbone.model.named_modules() if n for alias in aliases(n, backbone)}
    found = {}
    for name, layer in layers_in(tensors, file).items():
        rank = layer.down.shape[0]
        found[names.get(name, name)] = Factors(layer.down, layer.up, (layer.alpha or rank) / rank)
    return found


def aliases(name: str, backbone: Backbone) -> list[str]:
    """kohya's names of a layer: dots are underscores there, so that only the model itself can tell them apart."""
    component, _, rest = qualified(name, backbone).partition(".")
    rest = rest.removeprefix("text_model.").replace(".", "_")
    return [prefix + rest for prefix in PREFIXES.get(component, ())]
