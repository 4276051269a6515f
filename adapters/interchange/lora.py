"""LoRA written and read in every form: ours, diffusers', kohya's, peft's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adapters.errors import AdapterError
from adapters.interchange import diffusers_file, kohya, peft_folder
from adapters.interchange.factors import Factors, factors_of, take
from adapters.interchange.native import OWN_FILE, SETTINGS, check_method, settings_in
from adapters.interchange.tensors import adapter_file, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone
    from adapters.lora import LoraAttachment

NATIVE = {"diffusers": "diffusers", "transformers": "peft"}  # what the model's own library loads with no further step
WRITERS = {"diffusers": diffusers_file.write, "kohya": kohya.write, "peft": peft_folder.write}
FORMS = {"diffusers": ("diffusers", "kohya", "peft"), "transformers": ("peft",)}


def write_lora(attachment: LoraAttachment, folder: Path, form: str | None = None) -> list[Path]:
    """Write `form`, or the one that the model's own library loads as it is; the files written."""
    library = attachment.backbone.library
    form = form or NATIVE[library]
    if form not in FORMS[library]:
        valid = " or ".join(FORMS[library])
        raise AdapterError(f"LoRA of a model of {library} has no form '{form}': choose {valid}")
    layers = factors_of(attachment)
    if form == "peft" and any(name.startswith("text_encoder.") for name in layers):
        raise AdapterError(
            "peft's folder is for one model, not a UNet with its text encoder: choose diffusers or kohya"
        )
    return WRITERS[form](layers, attachment.backbone, folder)


def read_lora(attachment: LoraAttachment, source: Path) -> None:
    """Take the updates that a file or folder of any form holds. Raises AdapterError where it does not fit whole."""
    file = adapter_file(source, (OWN_FILE, diffusers_file.DIFFUSERS_FILE, peft_folder.PEFT_FILE, kohya.KOHYA_FILE))
    take(attachment, _layers(file, attachment.backbone), str(source))


def _layers(file: Path, backbone: Backbone) -> dict[str, Factors]:
    """The file's updates by the model's names; what form it has is read off its names and metadata."""
    tensors, metadata = read_tensors(file)
    if SETTINGS in metadata:
        return _own(tensors, metadata, file)
    if any(name.startswith(peft_folder.PREFIX) for name in tensors):
        return peft_folder.read(tensors, file, backbone)
    if any(name.startswith(("lora_unet_", "lora_te")) for name in tensors):
        return kohya.read(tensors, file, backbone)
    return diffusers_file.read(tensors, metadata, file, backbone)


def _own(tensors: dict[str, Tensor], metadata: dict[str, str], file: Path) -> dict[str, Factors]:
    """Ours: A and B by projection, the scale by the settings that they were saved with."""
    from adapters.lora import Lora

    saved = settings_in(metadata, file)
    check_method(saved, Lora.name, file)
    settings = Lora(alpha=saved.get("alpha"), use_rslora=bool(saved.get("use_rslora")))
    downs = {_projection(name): tensor for name, tensor in tensors.items() if ".lora_A" in name}
    ups = {_projection(name): tensor for name, tensor in tensors.items() if ".lora_B" in name}
    if not downs or downs.keys() != ups.keys() or len(downs) + len(ups) != len(tensors):
        raise AdapterError(f"'{file}' does not hold one A and one B a layer: fetch or save the whole file")
    return {name: Factors(down, ups[name], settings.scaling(len(down))) for name, down in downs.items()}


def _projection(name: str) -> str:
    return name.rpartition(".")[0].removesuffix(".adapter")
