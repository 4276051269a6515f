"""Ranks and alphas of many layers as peft's LoraConfig has them: one for most, patterns for the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from adapters.errors import AdapterError
from adapters.interchange.factors import Factors
from adapters.interchange.lora_keys import Layer

# Settings of LoraConfig with which the update is no longer scale * B A on the model's own weights
OTHER_METHODS = (
    "use_dora", "use_qalora", "use_bdlora", "layer_replication", "alora_invocation_tokens", "modules_to_save",
    "trainable_token_indices", "target_parameters", "lora_bias", "velora_config", "monteclora_config", "kasa_config",
    "arrow_config",
)  # fmt: skip
CHANGED_WEIGHTS = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initialisations that alter the base's weights


def lora_settings(layers: Mapping[str, Factors], modules: Collection[str]) -> dict[str, Any]:
    """Settings of LoraConfig that give every layer its rank and its scale as alpha / rank.

    Of all the model's `modules` the layers are named by the shortest endings that tell them from the others, as peft
    shortens them too when it loads: a name for each would be a few kilobytes.
    """
    from peft.tuners.tuners_utils import _find_minimal_target_modules as shortest_endings

    ranks = {name: found.rank for name, found in layers.items()}
    alphas = {name: found.alpha for name, found in layers.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "target_modules": sorted(shortest_endings(list(layers), set(modules) - layers.keys())),
    }


def check_plain(settings: Mapping[str, Any], file: Path) -> None:
    """Raise AdapterError where LoraConfig's settings ask for more than a plain LoRA."""
    for name in OTHER_METHODS:
        if settings.get(name):
            raise AdapterError(f"'{file}' is no plain LoRA, it has {name}: only plain ones are read")
    if settings.get("bias", "none") != "none":
        raise AdapterError(f"'{file}' trains biases too, which a LoRA here does not: only plain ones are read")
    start = str(settings.get("init_lora_weights", "")).lower()
    if start.startswith(CHANGED_WEIGHTS):
        raise AdapterError(
            f"'{file}' began as {start}, which changes the base's own weights: convert it with peft first"
        )


def scaled(name: str, layer: Layer, settings: Mapping[str, Any]) -> Factors:
    """The layer's factors with the scale that LoraConfig's settings give it; `name` is the model's."""
    from peft.utils.other import get_pattern_key

    rank = layer.down.shape[0]
    patterns = settings.get("alpha_pattern") or {}
    alpha = patterns.get(get_pattern_key(list(patterns), name), settings["lora_alpha"])
    return Factors(layer.down, layer.up, alpha / (rank**0.5 if settings.get("use_rslora") else rank))
