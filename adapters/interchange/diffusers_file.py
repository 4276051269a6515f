"""LoRA as diffusers' `pytorch_lora_weights.safetensors`, which `pipe.load_lora_weights(folder)` loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError
from adapters.interchange.exported_file import ExportedFile, SafetensorsFile
from adapters.interchange.factors import Factors
from adapters.interchange.lora_config import check_plain, lora_settings, scale_by_settings
from adapters.interchange.lora_keys import COMPONENTS, layers_in, model_names, qualified

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
METADATA = "lora_adapter_metadata"


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


def read(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], file: Path, backbone: Backbone
) -> dict[str, Factors]:
    """The updates under the model's names. Without metadata and alphas the scale is 1, as in diffusers."""
    names, settings, factors = model_names(backbone), _settings(metadata, file), {}
    for name, layer in layers_in(tensors, file).items():
        component, _, rest = name.partition(".")
        model_name = names.get(name, name)
        if component in settings and layer.alpha is None:
            factors[model_name] = scale_by_settings(rest, layer, settings[component])
        else:
            rank = layer.down.shape[0]
            factors[model_name] = Factors(layer.down, layer.up, (rank if layer.alpha is None else layer.alpha) / rank)
    return factors


def _settings(metadata: Mapping[str, str], file: Path) -> dict[str, dict[str, Any]]:
    """LoraConfig's settings by component."""
    if METADATA not in metadata:
        return {}
    try:
        flat = dict(json.loads(metadata[METADATA]))
    except (ValueError, TypeError):
        raise AdapterError(f"'{file}' has metadata that is not JSON: save it again with diffusers") from None
    by_component = {
        component: {n.removeprefix(f"{component}."): v for n, v in flat.items() if n.startswith(f"{component}.")}
        for component in COMPONENTS
    }
    for component, settings in by_component.items():
        check_plain(settings, file)
        if settings and not isinstance(settings.get("lora_alpha"), int | float):
            raise AdapterError(f"'{file}' lacks the alpha of its {component}: save it again with diffusers")
    return {component: settings for component, settings in by_component.items() if settings}
