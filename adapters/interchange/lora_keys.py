"""Tensor names of LoRA files: which layer and which factor they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor

# A and B as named by peft and today's diffusers, by kohya, and by early diffusers; peft may add the adapter's name
ENDINGS = re.compile(
    r"(?P<layer>.+)\.(?P<part>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up|lora_linear_layer\.down"
    r"|lora_linear_layer\.up)(\.(?P<adapter>[^.]+))?\.weight"
)
PROCESSOR = re.compile(r"(?P<attention>.+)\.processor\.to_(?P<part>q|k|v|out)_lora\.(?P<side>down|up)\.weight")
DOWN = ("lora_A", "down")
# tensors of other methods, by a part of their names
OTHER_METHODS = {
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "lora_mid": "a LoCon with a Tucker decomposition",
    "oft_": "an OFT",
    "boft_": "a BOFT",
    ".on_input": "an IA3",
    "ia3_": "an IA3",
    "vera_": "a VeRA",
    "lora_E": "an AdaLoRA",
    "lora_embedding_": "a LoRA of token embeddings",
    "modules_to_save": "a LoRA with whole layers beside it",
    ".diff": "a difference of whole weights",
    "w_norm": "a difference of norms",
    "b_norm": "a difference of norms",
    ".bias": "a LoRA with biases",
    "bundle_emb": "a LoRA with embeddings of new words",
    "emb_params": "an embedding of new words (textual inversion)",
}


@dataclass(frozen=True)
class Layer:
    """One layer's A and B, and its alpha if the file stores it beside them."""

    down: Tensor
    up: Tensor
    alpha: float | None


def layers_in(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Layer]:
    """A, B and alpha by the file's name of each layer.

    Raises AdapterError for a tensor that plain LoRA does not have (DoRA's magnitude, a factor of LoHa), for several
    adapters in one file, for an A without its B, and if the ranks of the two differ.
    """
    _check_one_adapter(tensors, file)
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
        kind = next((kind for part, kind in OTHER_METHODS.items() if part in name), "more than a plain LoRA")
        raise AdapterError(
            f"'{file}' is {kind} (it holds '{name}'), and only plain LoRA files are read: merge it into its base with "
            "the tool that wrote it, and train on that base"
        )
    return match["layer"], "down" if match["part"].endswith(DOWN) else "up"


def _check_one_adapter(tensors: Mapping[str, Tensor], file: Path) -> None:
    matches = [match for name in tensors if (match := ENDINGS.fullmatch(name))]
    adapters = sorted({match["adapter"] or "one without a name" for match in matches})
    if len(adapters) > 1:
        raise AdapterError(
            f"'{file}' holds several adapters ({', '.join(adapters)}): save one of them in a file of its own"
        )


def _check_shapes(layer: str, factors: Mapping[str, Tensor], file: Path) -> None:
    down, up = factors["down"], factors["up"]
    matrices = down.ndim == up.ndim and down.ndim in (2, 4) and down.shape[0] == up.shape[1] > 0
    if not matrices or not (down.is_floating_point() and up.is_floating_point()):
        raise AdapterError(
            f"'{file}' has A of shape {tuple(down.shape)} and B of shape {tuple(up.shape)} in '{layer}': "
            "expected (rank, in) and (out, rank), in floating point"
        )
