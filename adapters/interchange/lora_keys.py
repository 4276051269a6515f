"""Tensor names of LoRA files: which layer and which factor they are, and the model's name of that layer."""

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

# A and B as named by peft and today's diffusers, by kohya, and by early diffusers
ENDINGS = re.compile(
    r"(?P<layer>.+)\.(?P<part>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up|lora_linear_layer\.down"
    r"|lora_linear_layer\.up)(\.default)?\.weight"
)
PROCESSOR = re.compile(r"(?P<attention>.+)\.processor\.to_(?P<part>q|k|v|out)_lora\.(?P<side>down|up)\.weight")
DOWN = ("lora_A", "down")
COMPONENTS = ("unet", "text_encoder")  # of a StableDiffusionPipeline


@dataclass(frozen=True)
class Layer:
    """One layer's A and B, and its alpha if the file stores it beside them."""

    down: Tensor
    up: Tensor
    alpha: float | None


def layers_in(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Layer]:
    """A, B and alpha by the file's name of each layer.

    Raises AdapterError for a tensor that plain LoRA does not have (DoRA's magnitude, a factor of LoHa), for an A
    without its B, and if the ranks of the two differ.
    """
    sides: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    for name, tensor in tensors.items():
        layer, side = _parse(name, file)
        if side == "alpha":
            if tensor.numel() != 1:
                raise AdapterError(f"'{file}' has {tensor.numel()} numbers in '{name}', expected one: save it again")
            alphas[layer] = tensor.item()
        else:
            sides.setdefault(layer, {})[side] = tensor
    incomplete = sorted({*alphas} - {*sides} | {layer for layer, factors in sides.items() if len(factors) < 2})
    if incomplete:
        raise AdapterError(
            f"'{file}' has only a part of the update of '{incomplete[0]}': download or save the whole file"
        )
    for layer, factors in sides.items():
        _check_shapes(layer, factors, file)
    return {layer: Layer(factors["down"], factors["up"], alphas.get(layer)) for layer, factors in sides.items()}


def _parse(name: str, file: Path) -> tuple[str, str]:
    """The layer, and "down", "up" or "alpha"."""
    if name.endswith(".alpha"):
        return name.removesuffix(".alpha"), "alpha"
    if match := PROCESSOR.fullmatch(name):
        part = "to_out.0" if match["part"] == "out" else f"to_{match['part']}"
        return f"{match['attention']}.{part}", match["side"]
    match = ENDINGS.fullmatch(name)
    if match is None:
        raise AdapterError(
            f"'{file}' holds '{name}', which is not part of a plain LoRA: only plain LoRA files are read"
        )
    return match["layer"], "down" if match["part"].endswith(DOWN) else "up"


def _check_shapes(layer: str, factors: Mapping[str, Tensor], file: Path) -> None:
    down, up = factors["down"], factors["up"]
    matrices = down.ndim == up.ndim and down.ndim in (2, 4) and down.shape[0] == up.shape[1] > 0
    if not matrices or not (down.is_floating_point() and up.is_floating_point()):
        raise AdapterError(
            f"'{file}' has A of shape {tuple(down.shape)} and B of shape {tuple(up.shape)} in '{layer}': "
            "expected (rank, in) and (out, rank), in floating point"
        )


def qualified(name: str, backbone: Backbone) -> str:
    """The name of a layer within a whole pipeline: "unet.down_blocks...", "text_encoder.encoder..."."""
    inside = name.split(".")[0] in COMPONENTS
    return name if inside or backbone.library != "diffusers" else f"unet.{name}"


def model_names(backbone: Backbone) -> dict[str, str]:
    """The model's layer names by every dotted name that files use for them.

    transformers before 5 had a text encoder's layers below `text_model`, and files still do.
    """
    names = {}
    for name, _ in backbone.model.named_modules():
        in_pipeline = qualified(name, backbone)
        component, _, rest = in_pipeline.partition(".")
        for alias in (name, in_pipeline, f"{component}.text_model.{rest}"):
            names[alias] = name
    return names
