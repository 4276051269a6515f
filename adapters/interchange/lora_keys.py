"""Tensors of a LoRA file, by layer; and other tools' names of layers in the model's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone

# A and B in the words of peft and today's diffusers, of kohya, and of diffusers' first years
ENDINGS = re.compile(
    r"(?P<layer>.+)\.(?P<part>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up|lora_linear_layer\.down"
    r"|lora_linear_layer\.up)(\.default)?\.weight"
)
PROCESSOR = re.compile(r"(?P<attention>.+)\.processor\.to_(?P<part>q|k|v|out)_lora\.(?P<side>down|up)\.weight")
DOWN = ("lora_A", "down")
COMPONENTS = ("unet", "text_encoder")  # of a StableDiffusionPipeline


@dataclass(frozen=True)
class Layer:
    """One layer's A and B, and its alpha where the file gives one beside them."""

    down: Tensor
    up: Tensor
    alpha: float | None


def layers_in(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Layer]:
    """A, B and alpha by the file's own name of each layer.

    Raises AdapterError for a tensor that is no plain LoRA's (a DoRA's magnitude, a LoHa's factor), for an A without
    its B, and for ranks that differ between the two.
    """
    sides: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    for name, tensor in tensors.items():
        layer, side = _place(name, file)
        if side == "alpha":
            if tensor.numel() != 1:
                raise AdapterError(f"'{file}' has {tensor.numel()} numbers in '{name}', expected one: save it again")
            alphas[layer] = tensor.item()
        else:
            sides.setdefault(layer, {})[side] = tensor
    orphans = sorted({*alphas} - {*sides} | {layer for layer, found in sides.items() if len(found) < 2})
    if orphans:
        raise AdapterError(f"'{file}' has only a part of the update of '{orphans[0]}': fetch or save the whole file")
    for layer, found in sides.items():
        _check_shapes(layer, found, file)
    return {layer: Layer(found["down"], found["up"], alphas.get(layer)) for layer, found in sides.items()}


def _place(name: str, file: Path) -> tuple[str, str]:
    """The layer and "down", "up" or "alpha"."""
    if name.endswith(".alpha"):
        return name.removesuffix(".alpha"), "alpha"
    if old := PROCESSOR.fullmatch(name):
        part = "to_out.0" if old["part"] == "out" else f"to_{old['part']}"
        return f"{old['attention']}.{part}", old["side"]
    found = ENDINGS.fullmatch(name)
    if found is None:
        raise AdapterError(f"'{file}' holds '{name}', which is no part of a plain LoRA: only such files are read")
    return found["layer"], "down" if found["part"].endswith(DOWN) else "up"


def _check_shapes(layer: str, found: Mapping[str, Tensor], file: Path) -> None:
    down, up = found["down"], found["up"]
    matrices = down.ndim == up.ndim and down.ndim in (2, 4) and down.shape[0] == up.shape[1] > 0
    if not matrices or not (down.is_floating_point() and up.is_floating_point()):
        raise AdapterError(
            f"'{file}' has A of shape {tuple(down.shape)} and B of shape {tuple(up.shape)} in '{layer}': "
            "expected (rank, in) and (out, rank), in floating point"
        )


def qualified(name: str, backbone: Backbone) -> str:
    """The name of a layer in a whole pipeline: "unet.down_blocks...", "text_encoder.encoder..."."""
    inside = name.split(".")[0] in COMPONENTS
    return name if inside or backbone.library != "diffusers" else f"unet.{name}"


def own_names(backbone: Backbone) -> dict[str, str]:
    """The model's names of its layers by all dotted names that files have for them.

    A text encoder of transformers before 5 had its layers below `text_model`, and files still say so.
    """
    names = {}
    for name, _ in backbone.model.named_modules():
        whole = qualified(name, backbone)
        component, _, rest = whole.partition(".")
        for alias in (name, whole, f"{component}.text_model.{rest}"):
            names[alias] = name
    return names
