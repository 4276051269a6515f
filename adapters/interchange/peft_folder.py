"""LoRA in peft's folder, `adapter_config.json` beside `adapter_model.safetensors`: what `PeftModel.from_pretrained`
loads as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError
from adapters.interchange.factors import Factors
from adapters.interchange.lora_config import check_plain, lora_settings, scaled
from adapters.interchange.lora_keys import layers_in
from adapters.interchange.native import OWN_FILE, SETTINGS, read_own
from adapters.interchange.tensors import adapter_file, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone
    from adapters.base import Adapter

PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
# settings of peft that change nothing in what the saved tensors mean, or that the tensors' names show
DESCRIPTIVE = (
    "auto_mapping", "base_model_name_or_path", "feedforward_modules", "inference_mode", "init_lora_weights",
    "init_weights", "lora_dropout", "peft_version", "revision", "target_modules", "task_type",
)  # fmt: skip


def write(layers: Mapping[str, Factors], backbone: Backbone, folder: Path) -> list[Path]:
    """A fused layer (GPT-2's c_attn) has one update whose rank is the sum of its parts' ranks."""
    from peft import LoraConfig

    transposed = {projection.name for projection in backbone.all_projections() if projection.transposed}
    config = LoraConfig(
        **lora_settings(layers, [name for name, _ in backbone.model.named_modules()]),
        **common(backbone),
        fan_in_fan_out=bool(transposed & layers.keys()),
    )
    tensors = {}
    for name, found in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = found.down
        tensors[f"{PREFIX}{name}.lora_B.weight"] = found.up
    return save(config, tensors, folder)


def common(backbone: Backbone) -> dict[str, Any]:
    """What every configuration of peft says of the model."""
    language = backbone.library == "transformers"
    return {
        "task_type": "CAUSAL_LM" if language else None,
        "base_model_name_or_path": getattr(backbone.model.config, "_name_or_path", None) or None,
        "inference_mode": True,
    }


def save(config: Any, tensors: Mapping[str, Tensor], folder: Path) -> list[Path]:
    """peft's two files, the configuration written by peft itself."""
    from safetensors.torch import save_file

    config.save_pretrained(folder)
    save_file(dict(tensors), folder / PEFT_FILE, metadata={"format": "pt"})
    return [folder / PEFT_CONFIG, folder / PEFT_FILE]


def read(tensors: Mapping[str, Tensor], file: Path, backbone: Backbone) -> dict[str, Factors]:
    """The updates by the model's names, which are peft's below its prefix."""
    settings = config_beside(file, "LORA")
    check_plain(settings, file)
    found = {name.removeprefix(PREFIX): layer for name, layer in layers_in(tensors, file).items()}
    return {name: scaled(name, layer, settings) for name, layer in found.items()}


def read_state(source: Path, config: Any, adapter: Adapter) -> dict[str, Tensor]:
    """The state of any method of peft, from its folder or from our own file, for the configuration `config`.

    Raises AdapterError where the folder was saved with other settings.
    """
    file = adapter_file(source, (OWN_FILE, PEFT_FILE))
    tensors, metadata = read_tensors(file)
    if SETTINGS in metadata:
        return read_own(file, adapter)
    now = json.loads(json.dumps(config.to_dict(), default=sorted))
    for name, value in config_beside(file, now["peft_type"]).items():
        if name not in DESCRIPTIVE and now.get(name, value) != value:
            raise AdapterError(
                f"'{source}' was saved with {name} {value}, not {now[name]}: set it by --adapter.options"
            )
    return tensors


def config_beside(file: Path, kind: str) -> dict[str, Any]:
    """The configuration beside peft's file. Raises AdapterError unless it is whole and of the method `kind`."""
    config = file.parent / PEFT_CONFIG
    try:
        settings = json.loads(config.read_text())
        method = settings["peft_type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise AdapterError(
            f"'{config}' must lie beside '{file.name}' and say what it holds: take peft's whole folder"
        ) from None
    if method != kind:
        raise AdapterError(f"'{config}' says that its adapter is a {method}, expected {kind}: take that method")
    if kind == "LORA" and not isinstance(settings.get("lora_alpha"), int | float):
        raise AdapterError(f"'{config}' does not say the adapter's lora_alpha: save it again with peft")
    return settings
