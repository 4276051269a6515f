"""peft's folder, `adapter_config.json` beside `adapter_model.safetensors`, which `PeftModel.from_pretrained` loads."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from copy import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError
from adapters.interchange.exported_file import ExportedFile, JsonFile, SafetensorsFile
from adapters.interchange.factors import Factors
from adapters.interchange.lora_config import check_initialisation, check_plain, lora_settings, scale_by_settings
from adapters.interchange.lora_keys import layers_in
from adapters.interchange.native import NATIVE_FILE, SETTINGS, read_native
from adapters.interchange.tensors import adapter_file, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone

PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
HUB_CACHE = re.compile(r"models--([^/\\]+)[/\\]snapshots[/\\]")
# settings of peft that do not change what the saved tensors mean, or that the tensors' names imply
DESCRIPTIVE = (
    "auto_mapping", "base_model_name_or_path", "feedforward_modules", "inference_mode", "init_lora_weights",
    "init_weights", "lora_dropout", "peft_version", "revision", "target_modules", "task_type",
)  # fmt: skip


def export(layers: Mapping[str, Factors], backbone: Backbone) -> list[ExportedFile]:
    """A LoRA. A fused layer (GPT-2's c_attn) has one update, whose rank is the sum of its parts' ranks."""
    from peft import LoraConfig

    transposed = {projection.name for projection in backbone.all_projections() if projection.transposed}
    config = LoraConfig(
        **lora_settings(layers, [name for name, _ in backbone.model.named_modules()]),
        **model_settings(backbone),
        fan_in_fan_out=bool(transposed & layers.keys()),
    )
    tensors = {}
    for name, factors in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = factors.down
        tensors[f"{PREFIX}{name}.lora_B.weight"] = factors.up
    return files(config, tensors)


def model_settings(backbone: Backbone) -> dict[str, Any]:
    """The settings about the model that every configuration of peft has."""
    language = backbone.library == "transformers"
    return {
        "task_type": "CAUSAL_LM" if language else None,
        "base_model_name_or_path": getattr(backbone.model.config, "_name_or_path", None),
        "inference_mode": True,
    }


def shareable_name(name: object) -> str | None:
    """The model's name on the Hub, also from its folder in the Hub's cache; None for any other folder of this machine.

    diffusers keeps a Path.
    """
    text = str(name or "")
    if cached := HUB_CACHE.search(text):
        return cached[1].replace("--", "/")
    is_folder = Path(text).is_absolute() or text.startswith((".", "~")) or Path(text).exists()
    return None if not text or is_folder else text


def files(config: Any, tensors: Mapping[str, Tensor]) -> list[ExportedFile]:
    """peft's two files; peft itself encodes the configuration."""
    with TemporaryDirectory() as folder:
        config = copy(config)
        config.base_model_name_or_path = shareable_name(config.base_model_name_or_path)
        config.save_pretrained(folder)
        text = (Path(folder) / PEFT_CONFIG).read_text()
    return [JsonFile(PEFT_CONFIG, text), SafetensorsFile(PEFT_FILE, tensors)]


def read(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Factors]:
    """The updates under the model's names, which are peft's without its prefix."""
    settings = config_beside(file, "LORA")
    check_plain(settings, file)
    layers = {name.removeprefix(PREFIX): layer for name, layer in layers_in(tensors, file).items()}
    return {name: scale_by_settings(name, layer, settings) for name, layer in layers.items()}


def read_state(
    source: Path, config: Any, settings: Mapping[str, Any], changes_base: bool, seeds: Collection[str]
) -> dict[str, Tensor]:
    """The state of any method of peft, from its folder or our own file.

    `config` is peft's configuration and `settings` are ours, both of the adapter to load into; `changes_base` tells
    that its initialisation has changed the base's weights. The options `seeds` are the source's. Raises AdapterError if
    it was saved with other values of any other option.
    """
    import torch

    file = adapter_file(source, (NATIVE_FILE, PEFT_FILE))
    tensors, metadata = read_tensors(file)
    if SETTINGS in metadata:
        return read_native(file, settings)
    expected = json.loads(json.dumps(config.to_dict(), default=sorted))
    saved = config_beside(file, expected["peft_type"])
    check_initialisation(saved, file)
    if changes_base:
        raise AdapterError(
            f"'{source}' is for the base's own weights, which init_lora_weights {expected['init_lora_weights']} "
            "changes: remove init_lora_weights from --adapter.options"
        )
    for name, value in saved.items():
        if name not in DESCRIPTIVE and name not in seeds and expected.get(name, value) != value:
            raise AdapterError(
                f"'{source}' was saved with {name} {value}, not {expected[name]}: set it with --adapter.options"
            )
    return tensors | {name: torch.tensor(saved[name]) for name in seeds if saved.get(name) is not None}


def config_beside(file: Path, method: str) -> dict[str, Any]:
    """The configuration in the file's folder. Raises AdapterError unless it is complete and of peft's `method`."""
    config = file.parent / PEFT_CONFIG
    try:
        settings = json.loads(config.read_text())
        saved_method = settings["peft_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise AdapterError(
            f"'{config}' must be beside '{file.name}' and name its peft_type: copy peft's whole folder"
        ) from None
    if saved_method != method:
        raise AdapterError(f"'{config}' describes the method {saved_method}, expected {method}: choose that method")
    if method == "LORA" and not isinstance(settings.get("lora_alpha"), int | float):
        raise AdapterError(f"'{config}' lacks the adapter's lora_alpha: save it again with peft")
    return settings
