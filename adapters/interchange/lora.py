"""LoRA to and from every format: our own, diffusers', kohya's, peft's."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.errors import AdapterError
from adapters.interchange import diffusers_file, kohya, peft_folder
from adapters.interchange.factors import Factors, ScaledFactors, factors_by_layer, load_factors, lora_scaling
from adapters.interchange.layer_names import renamed
from adapters.interchange.lora_keys import layers_in
from adapters.interchange.lora_scales import Scales
from adapters.interchange.native import NATIVE_FILE, SETTINGS, check_method, saved_settings
from adapters.interchange.tensors import adapter_file, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone
    from adapters.interchange.exported_file import ExportedFile

DEFAULT_FORMATS = {"diffusers": "diffusers", "transformers": "peft"}  # what the model's own library loads
FORMATS = {"diffusers": ("diffusers", "kohya", "peft"), "transformers": ("peft",)}
EXPORTS = {"diffusers": diffusers_file.export, "kohya": kohya.export, "peft": peft_folder.export}


def export_lora(
    updates: Mapping[str, ScaledFactors], backbone: Backbone, format: str | None = None
) -> list[ExportedFile]:
    """The updates as files of `format`, by default the format that the model's own library loads."""
    format = format or DEFAULT_FORMATS[backbone.library]
    if format not in FORMATS[backbone.library]:
        valid = " or ".join(FORMATS[backbone.library])
        raise AdapterError(f"LoRA of a {backbone.library} model has no format '{format}': choose {valid}")
    layers = factors_by_layer(updates.values())
    if format == "peft" and any(name.startswith(("text_encoder.", "text_encoder_2.")) for name in layers):
        raise AdapterError(
            "peft's folder is for one model, not a UNet with its text encoder: choose diffusers or kohya"
        )
    return EXPORTS[format](layers, backbone)


def load_lora(updates: Mapping[str, ScaledFactors], backbone: Backbone, source: Path, method: str) -> None:
    """Copy a file or folder of any format into the updates (by projection key).

    `method` is the name that our own files of this method have. Raises AdapterError if the file does not fit whole.
    """
    file = adapter_file(source, (NATIVE_FILE, diffusers_file.DIFFUSERS_FILE, peft_folder.PEFT_FILE, kohya.KOHYA_FILE))
    load_factors(updates, _read_layers(file, backbone, method), backbone, str(source))


def _read_layers(file: Path, backbone: Backbone, method: str) -> dict[str, Factors]:
    """The file's updates under the model's names; metadata and tensor names tell the format."""
    tensors, metadata = read_tensors(file)
    if SETTINGS in metadata:
        return _read_native(tensors, metadata, file, method)
    if any(name.startswith(peft_folder.PREFIX) for name in tensors):
        return peft_folder.read(tensors, file)
    layers, scales = layers_in(tensors, file), Scales(metadata, file)
    names = renamed(layers, backbone)
    _check_unique(names, file)
    if any(layer.alpha == 0 for layer in layers.values()):
        print(f"'{file}' has layers with alpha 0, which is read as the layer's rank: scale 1", file=sys.stderr)
    read = {name: layer for name, layer in layers.items() if names[name] not in backbone.unread}
    return {names[name]: scales.factors(name, layer) for name, layer in read.items()}


def _check_unique(names: Mapping[str, str], file: Path) -> None:
    """Raise AdapterError if two of the file's names are the same layer."""
    for name, count in Counter(names.values()).items():
        if count > 1:
            twice = " and ".join(f"'{alias}'" for alias, own in names.items() if own == name)
            raise AdapterError(f"'{file}' updates one layer twice, as {twice}: save it again with one name per layer")


def _read_native(tensors: dict[str, Tensor], metadata: dict[str, str], file: Path, method: str) -> dict[str, Factors]:
    """Our own file: A and B by projection, scaled by the settings that they were trained with."""
    saved = saved_settings(metadata, file)
    check_method(saved, method, file)
    downs = {_projection_key(name): tensor for name, tensor in tensors.items() if ".lora_A" in name}
    ups = {_projection_key(name): tensor for name, tensor in tensors.items() if ".lora_B" in name}
    if not downs or downs.keys() != ups.keys() or len(downs) + len(ups) != len(tensors):
        raise AdapterError(f"'{file}' does not hold one A and one B per layer: download or save the whole file")
    return {key: Factors(down, ups[key], _scaling(saved, len(down), file)) for key, down in downs.items()}


def _scaling(saved: Mapping[str, object], rank: int, file: Path) -> float:
    alpha = rank if saved.get("alpha") in (None, "rank") else saved["alpha"]  # None: release 0.1
    if not isinstance(alpha, int | float) or rank < 1:
        raise AdapterError(f"'{file}' has rank {rank} and alpha {alpha}, expected positive numbers: save it again")
    return lora_scaling(rank, alpha, bool(saved.get("use_rslora")))


def _projection_key(name: str) -> str:
    return name.rpartition(".")[0]
