"""LoRA in diffusers' `pytorch_lora_weights.safetensors`: what `pipe.load_lora_weights(folder)` loads as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError
from adapters.interchange.factors import Factors
from adapters.interchange.lora_config import check_plain, lora_settings, scaled
from adapters.interchange.lora_keys import COMPONENTS, layers_in, own_names, qualified

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
METADATA = "lora_adapter_metadata"


def write(layers: Mapping[str, Factors], backbone: Backbone, folder: Path) -> list[Path]:
    """Keys `unet.<layer>.lora_A.weight`; rank and alpha of every layer in the metadata, as peft's LoraConfig.

    Without the metadata diffusers takes alpha = rank and the pictures are silently wrong.
    """
    from safetensors.torch import save_file

    named = {qualified(name, backbone): found for name, found in layers.items()}
    modules = [qualified(name, backbone) for name, _ in backbone.model.named_modules() if name]
    tensors, metadata = {}, {}
    for component in COMPONENTS:
        inside = {n.removeprefix(f"{component}."): f for n, f in named.items() if n.startswith(f"{component}.")}
        for name, found in inside.items():
            tensors[f"{component}.{name}.lora_A.weight"] = found.down
            tensors[f"{component}.{name}.lora_B.weight"] = found.up
        if inside:
            own = {name.removeprefix(f"{component}.") for name in modules if name.startswith(f"{component}.")}
            settings = {"peft_type": "LORA", **lora_settings(inside, own)}
            metadata |= {f"{component}.{name}": value for name, value in settings.items()}
    file = folder / DIFFUSERS_FILE
    save_file(tensors, file, metadata={METADATA: json.dumps(metadata), "format": "pt"})
    return [file]


def read(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], file: Path, backbone: Backbone
) -> dict[str, Factors]:
    """The updates by the model's names. Without metadata and alphas the scale is 1, as diffusers has it."""
    names, settings, found = own_names(backbone), _settings(metadata, file), {}
    for name, layer in layers_in(tensors, file).items():
        component, _, rest = name.partition(".")
        own = names.get(name, name)
        if component in settings and layer.alpha is None:
            found[own] = scaled(rest, layer, settings[component])
        else:
            rank = layer.down.shape[0]
            found[own] = Factors(layer.down, layer.up, (rank if layer.alpha is None else layer.alpha) / rank)
    return found


def _settings(metadata: Mapping[str, str], file: Path) -> dict[str, dict[str, Any]]:
    """LoraConfig's settings by component."""
    if METADATA not in metadata:
        return {}
    try:
        flat = dict(json.loads(metadata[METADATA]))
    except (ValueError, TypeError):
        raise AdapterError(f"'{file}' has metadata that is not JSON: save it again with diffusers") from None
    settings = {
        component: {n.removeprefix(f"{component}."): v for n, v in flat.items() if n.startswith(f"{component}.")}
        for component in COMPONENTS
    }
    for component, found in settings.items():
        check_plain(found, file)
        if found and not isinstance(found.get("lora_alpha"), int | float):
            raise AdapterError(f"'{file}' does not say the alpha of its {component}: save it again with diffusers")
    return {component: found for component, found in settings.items() if found}
