"""Ranks and alphas of many layers in the terms of peft's LoraConfig: one for most layers, patterns for the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from adapters.errors import AdapterError
from adapters.interchange.factors import Factors, lora_scaling
from adapters.interchange.lora_keys import Layer

# settings of LoraConfig with which the update is no longer scale * B A on the model's own weights
OTHER_METHODS = (
    "use_dora", "use_qalora", "use_bdlora", "layer_replication", "alora_invocation_tokens", "modules_to_save",
    "trainable_token_indices", "target_parameters", "lora_bias", "velora_config", "monteclora_config", "kasa_config",
    "arrow_config",
)  # fmt: skip
CHANGED_WEIGHTS = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initialisations that change the base's weights


def lora_settings(layers: Mapping[str, Factors], modules: Collection[str]) -> dict[str, Any]:
    """Settings of LoraConfig that give every layer its rank, and its scale as alpha / rank.

    Layers are named by the shortest endings that no other of the model's `modules` shares, as peft itself shortens
    them when it loads: full names would take a few kilobytes.
    """
    from peft.tuners.tuners_utils import _find_minimal_target_modules

    ranks = {name: factors.rank for name, factors in layers.items()}
    alphas = {name: factors.alpha for name, factors in layers.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "target_modules": sorted(_find_minimal_target_modules(list(layers), set(modules) - layers.keys())),
    }


def check_plain(settings: Mapping[str, Any], file: Path) -> None:
    """Raise AdapterError if LoraConfig's settings describe more than a plain LoRA."""
    for name in OTHER_METHODS:
        if settings.get(name):
            raise AdapterError(f"'{file}' is not a plain LoRA, it uses {name}: only plain LoRA files are read")
    if settings.get("bias", "none") != "none":
        raise AdapterError(f"'{file}' also trains biases, which LoRA does not do here: only plain LoRA files are read")
    check_initialisation(settings, file)


def check_initialisation(settings: Mapping[str, Any], file: Path) -> None:
    """Raise AdapterError if LoraConfig's settings start from changed weights of the base, which the file lacks."""
    start = str(settings.get("init_lora_weights", "")).lower()
    if start.startswith(CHANGED_WEIGHTS):
        raise AdapterError(
            f"'{file}' was initialised by {start}, which changes the base's own weights: convert it with peft first "
            "(save_pretrained with path_initial_model_for_weight_conversion)"
        )


def scale_by_settings(name: str, layer: Layer, settings: Mapping[str, Any]) -> Factors:
    """The layer's factors with the scale that LoraConfig's settings give it; `name` is the model's name for it."""
    from peft.utils.other import get_pattern_key

    patterns = settings.get("alpha_pattern") or {}
    alpha = patterns.get(get_pattern_key(list(patterns), name), settings["lora_alpha"])
    return Factors(layer.down, layer.up, lora_scaling(layer.down.shape[0], alpha, bool(settings.get("use_rslora"))))
