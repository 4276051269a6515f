"""LyCORIS' own file, which its `create_lycoris_from_weights` and ComfyUI load: `lycoris_<layer>.<tensor>`."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError, first_line
from adapters.interchange.exported_file import ExportedFile, SafetensorsFile

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone

LYCORIS_FILE = "lycoris.safetensors"


def export_lycoris(layers: Mapping[str, Any], backbone: Backbone) -> list[ExportedFile]:
    """The file of LyCORIS' modules, by the name of their layer.

    Raises AdapterError for a UNet with its text encoder, and for an algorithm whose files LyCORIS cannot load.
    """
    if any(name.startswith("text_encoder.") for name in layers):
        raise AdapterError("LyCORIS' file is for one model, not a UNet with its text encoder: train the UNet alone")
    tensors = {}
    for name, layer in layers.items():
        applied = deepcopy(layer)
        applied.apply_to()  # as in LyCORIS' own training, whose files hold differences from the applied state
        for part, tensor in applied.state_dict().items():
            tensors[f"{key_of(name)}.{part}"] = tensor.detach().to("cpu", copy=True).contiguous()
    _check_loadable(tensors, next(iter(layers)), backbone)
    return [SafetensorsFile(LYCORIS_FILE, tensors)]


def key_of(name: str) -> str:
    """The prefix of a layer's tensors in the file."""
    return f"lycoris_{name.replace('.', '_')}"


def _check_loadable(tensors: Mapping[str, Tensor], name: str, backbone: Backbone) -> None:
    """Raise AdapterError if LyCORIS' own loader fails on the update of the layer `name`."""
    from lycoris.modules import get_module, make_module

    key, layer = key_of(name), backbone.model.get_submodule(name)
    try:
        kind: Any
        kind, parts = get_module(tensors, key)
        make_module(kind, parts, key, layer)
    except Exception as failure:
        raise AdapterError(
            f"LyCORIS' own loader cannot read files of this algorithm ({first_line(failure)}): merge the run into its "
            "model instead (format merged)"
        ) from None
