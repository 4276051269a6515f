"""The names that tools give to the layers of a model, and what a name that no layer has says of its file.

A Stable Diffusion's layers have the names of diffusers ("down_blocks.1.attentions.0...") or of the original code of
latent diffusion ("input_blocks.4.1...", CompVis/latent-diffusion), below the prefix of the tool, with dots or with
underscores. Underscores are ambiguous, so names are mapped from the model's layers, not taken apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.backbone import Backbone

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")  # of a StableDiffusionPipeline; SDXL has a second encoder
# before dots and before underscores: diffusers, ComfyUI, OneTrainer (and its OMI format); kohya, OneTrainer, LyCORIS
DOTTED = {
    "unet": ("unet.", "diffusion_model.", "model.diffusion_model.", "lora_unet.", ""),
    "text_encoder": ("text_encoder.", "text_encoders.clip_l.transformer.", "clip_l.", "lora_te.", "lora_te1."),
    "text_encoder_2": ("text_encoder_2.", "text_encoders.clip_g.transformer.", "clip_g.", "lora_te2."),
}
UNDERSCORED = {
    "unet": ("lora_unet_", "lycoris_"),
    "text_encoder": ("lora_te_", "lora_te1_"),
    "text_encoder_2": ("lora_te2_",),
}
BELOW = "text_model."  # some releases of transformers have all layers of a text encoder below this

# names within the original code: of a ResNet block, and of the UNet's ends
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
STAGE = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)")

TEXT_ENCODER = r"(text_encoder|text_encoders\.clip_l|clip_l|lora_te1?)[._](?!\d)"
SECOND_ENCODER = r"(text_encoder_2|text_encoders\.clip_g|clip_g|lora_te2)[._]"
OTHER_ENCODERS = r"(lora_te3|text_encoder_3|text_encoders\.(?!clip_[lg]\.)|t5xxl)[._]?"
TRANSFORMER = (
    r"(lora_unet_|diffusion_model\.|transformer\.)?(double_|single_|joint_|single_transformer_)?"
    r"(blocks|transformer_blocks)[._]\d|(lora_)?transformer[._](?!h[._])|lycoris_(single_)?transformer_blocks"
)
# what a name says of a file, the first that fits
KINDS = (
    (OTHER_ENCODERS, "a text encoder that Stable Diffusion lacks"),
    (SECOND_ENCODER, "the second text encoder of a Stable Diffusion XL"),
    (TEXT_ENCODER, "the text encoder of a Stable Diffusion"),
    (TRANSFORMER, "a diffusion transformer (Flux, Stable Diffusion 3, ...), not a UNet"),
    (r"(model\.)?diffusion_model\.", "a UNet, in the names of ComfyUI"),
    (r"lycoris_", "a UNet, in the names of LyCORIS"),
    (r"lora_unet[._]", "a UNet, in the names of kohya and OneTrainer"),
    (r"(unet\.)?(down_blocks|mid_block|up_blocks)\.", "a UNet, in the names of diffusers"),
    (r"(transformer\.h|model\.layers)\.", "a language model, in the names of transformers"),
)


def model_names(backbone: Backbone) -> dict[str, str]:
    """The model's layer names by every name that files have for them."""
    names = [name for name, _ in backbone.model.named_modules() if name]
    return {alias: name for name in (*names, *backbone.unread) for alias in aliases(name, backbone)}


def aliases(name: str, backbone: Backbone) -> Iterator[str]:
    """All names of one layer; the first is the model's own."""
    yield name
    component, _, rest = qualified(name, backbone).partition(".")
    if component not in COMPONENTS:
        return
    for each in _same(component, rest, backbone):
        yield from (prefix + each for prefix in DOTTED[component])
        yield from (prefix + each.replace(".", "_") for prefix in UNDERSCORED[component])


def _same(component: str, name: str, backbone: Backbone) -> list[str]:
    """The names of a layer within its component."""
    if component == "unet":
        return [name, *_original_names(name, backbone)]
    return [name.removeprefix(BELOW), BELOW + name.removeprefix(BELOW)]


def qualified(name: str, backbone: Backbone) -> str:
    """The name of a layer within a whole pipeline: "unet.down_blocks...", "text_encoder.encoder..."."""
    inside = name.split(".")[0] in COMPONENTS
    return name if inside or backbone.library != "diffusers" else f"unet.{name}"


def kohya_name(name: str, backbone: Backbone) -> str:
    """kohya's name of a layer: "lora_unet_down_blocks_1_...", "lora_te_text_model_encoder_...".

    Those of SDXL are the original code's, "lora_unet_input_blocks_4_1_...", and "lora_te1_...", "lora_te2_...".
    """
    component, _, rest = qualified(name, backbone).partition(".")
    prefixes, names = UNDERSCORED[component], _same(component, rest, backbone)
    is_xl = has_two_encoders(backbone)
    prefix = prefixes[-1] if is_xl and component != "unet" else prefixes[0]
    return prefix + names[-1 if is_xl or component != "unet" else 0].replace(".", "_")


def has_two_encoders(backbone: Backbone) -> bool:
    """Whether the model is a Stable Diffusion XL, whose UNet takes a pooled text beside the text states."""
    return getattr(getattr(backbone.model, "config", None), "addition_embed_type", None) == "text_time"


def _original_names(name: str, backbone: Backbone) -> Iterator[str]:
    """The original code's name of a UNet's layer, if that code has such a layer."""
    layers = getattr(getattr(backbone.model, "config", None), "layers_per_block", None)
    stage = STAGE.match(name)
    start, new = next(((s, n) for s, n in ENDS.items() if name == s or name.startswith(f"{s}.")), (None, None))
    if stage is not None and isinstance(layers, int):
        start, new = stage[0], _original_stage(stage, layers, backbone)
    if start is None or new is None:
        return
    rest = name.removeprefix(start).removeprefix(".")
    if "resnets" in start:
        rest = RESNET.get(rest, rest)
    elif "downsamplers" in start:
        rest = rest.replace("conv", "op")
    yield f"{new}.{rest}".rstrip(".")


def _original_stage(stage: re.Match[str], layers: int, backbone: Backbone) -> str:
    """Blocks are numbered through; one block holds a ResNet block, its attention and a change of size in this order."""
    side, level, kind, index = stage[1], int(stage[2]), stage[3], int(stage[4])
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * (layers + 1)}.0"
    if kind == "upsamplers":
        inside = f"up_blocks.{level}.attentions."
        has_attention = any(inside in name for name, _ in backbone.model.named_modules())
        return f"output_blocks.{level * (layers + 1) + layers}.{2 if has_attention else 1}"
    first = level * (layers + 1) + (1 if side == "down" else 0)
    blocks = "input_blocks" if side == "down" else "output_blocks"
    return f"{blocks}.{first + index}.{0 if kind == 'resnets' else 1}"


def kind_of(names: Iterable[str]) -> str:
    """What a file with these layers is for."""
    names = list(names)
    for pattern, kind in KINDS:
        if any(re.match(pattern, name) for name in names):
            return kind
    return "another model"


def in_text_encoders(names: Iterable[str], backbone: Backbone) -> bool:
    """Whether all these layers are those of the text encoders of this Stable Diffusion."""
    encoders = f"{TEXT_ENCODER}|{SECOND_ENCODER}" if has_two_encoders(backbone) else TEXT_ENCODER
    return all(re.match(encoders, name) for name in names)


def renamed(layers: Mapping[str, object], backbone: Backbone) -> dict[str, str]:
    """The model's name for each of the file's layers; a layer that the model does not have keeps its name."""
    names = model_names(backbone)
    return {name: names.get(name, name) for name in layers}
