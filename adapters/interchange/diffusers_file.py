"""LoRA as diffusers' `pytorch_lora_weights.safetensors`, which `pipe.load_lora_weights(folder)` loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from adapters.interchange.exported_file import ExportedFile, SafetensorsFile
from adapters.interchange.factors import Factors
from adapters.interchange.layer_names import COMPONENTS, qualified
from adapters.interchange.lora_config import lora_settings
from adapters.interchange.lora_scales import METADATA

if TYPE_CHECKING:
    from adapters.backbone import Backbone

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"


def export(layers: Mapping[str, Factors], backbone: Backbone) -> list[ExportedFile]:
    """Keys `unet.<layer>.lora_A.weight`; rank and alpha of every layer in the metadata, as in peft's LoraConfig.

    Without this metadata diffusers assumes alpha = rank, and the images are silently wrong.
    """
    qualified_layers = {qualified(name, backbone): factors for name, factors in layers.items()}
    modules = [qualified(name, backbone) for name, _ in backbone.model.named_modules() if name]
    tensors, metadata = {}, {}
    for component in COMPONENTS:
        prefix = f"{component}."
        inside = {n.removeprefix(prefix): f for n, f in qualified_layers.items() if n.startswith(prefix)}
        for name, factors in inside.items():
            tensors[f"{prefix}{name}.lora_A.weight"] = factors.down
            tensors[f"{prefix}{name}.lora_B.weight"] = factors.up
        if inside:
            component_modules = {name.removeprefix(prefix) for name in modules if name.startswith(prefix)}
            settings = {"peft_type": "LORA", **lora_settings(inside, component_modules)}
            metadata |= {f"{prefix}{name}": value for name, value in settings.items()}
    return [SafetensorsFile(DIFFUSERS_FILE, tensors, {METADATA: json.dumps(metadata), "format": "pt"})]
