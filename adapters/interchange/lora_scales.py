"""The scale of each layer in a LoRA file, from wherever the file has it.

In this order: an alpha beside the factors (kohya), peft's LoraConfig in the metadata (diffusers), an alpha in the
metadata; without any of them the scale is 1, as in every loader.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.errors import AdapterError
from adapters.interchange.factors import Factors
from adapters.interchange.layer_names import COMPONENTS
from adapters.interchange.lora_config import check_plain, scale_by_settings
from adapters.interchange.lora_keys import Layer

METADATA = "lora_adapter_metadata"  # diffusers' key
ALPHAS = ("ss_network_alpha", "network_alpha", "lora_alpha", "alpha")
ARGUMENTS = "ss_network_args"  # kohya's further settings as JSON, among them the alpha of convolutions


class Scales:
    """The scales that one file's metadata gives. Raises AdapterError for metadata that cannot be read."""

    def __init__(self, metadata: Mapping[str, str], file: Path):
        self.metadata, self.file = metadata, file
        self.settings = _settings_by_component(metadata, file)

    def factors(self, name: str, layer: Layer) -> Factors:
        """The layer's update; `name` is the file's name for the layer."""
        component, _, rest = name.partition(".")
        rank = layer.down.shape[0]
        if layer.alpha is not None:
            return Factors(layer.down, layer.up, layer.alpha / rank if layer.alpha else 1.0)  # kohya: 0 means the rank
        if component in self.settings:
            return scale_by_settings(rest, layer, self.settings[component])
        alpha = self._alpha(is_convolution=layer.down.ndim == 4 and math.prod(layer.down.shape[2:]) > 1)
        return Factors(layer.down, layer.up, 1.0 if alpha is None else alpha / rank)

    def _alpha(self, is_convolution: bool) -> float | None:
        """The alpha in the metadata. Raises AdapterError if it is not a number, or if there are several."""
        texts = {name: self.metadata[name] for name in ALPHAS if self.metadata.get(name) not in (None, "", "None")}
        if is_convolution and (own := _arguments(self.metadata).get("conv_alpha")) is not None:
            texts = {f"{ARGUMENTS} conv_alpha": str(own)}
        try:
            alphas = {float(text) for text in texts.values()}
        except ValueError:
            alphas = {math.nan}
        if len(alphas) > 1 or not all(math.isfinite(alpha) for alpha in alphas):
            given = ", ".join(f"{name} '{text}'" for name, text in texts.items())
            raise AdapterError(f"'{self.file}' says {given}, expected one number: correct its metadata")
        return next(iter(alphas), None)


def _settings_by_component(metadata: Mapping[str, str], file: Path) -> dict[str, dict[str, Any]]:
    """LoraConfig's settings in diffusers' metadata, by component."""
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


def _arguments(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        return dict(json.loads(metadata.get(ARGUMENTS, "{}")))
    except (ValueError, TypeError):
        return {}
