"""The text encoders of Stable Diffusion XL, alone and as one model with the UNet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tasks.diffusion.model.conditioned_unet import ConditionedUNet
from tasks.pretrained.replaced_modules import with_modules


def without_last_layer(text_encoder: Any) -> Any:
    """A CLIPTextModel whose last state is what its last layer would read: nothing reads that layer's output in SDXL."""
    inner = inner_model(text_encoder)
    encoder = with_modules(inner.encoder, layers=nn.ModuleList(inner.encoder.layers[:-1]))
    shorter = with_modules(inner, encoder=encoder, final_layer_norm=nn.Identity())
    return shorter if inner is text_encoder else with_modules(text_encoder, text_model=shorter)


def last_layer_names(text_encoder: Any) -> tuple[str, ...]:
    """The modules of the last layer, as names in a model that has the whole encoder."""
    last = inner_model(text_encoder).encoder.layers[-1]
    prefix = next(name for name, module in text_encoder.named_modules() if module is last)
    return tuple(f"text_encoder.{prefix}.{name}" for name, _ in last.named_modules() if name)


def inner_model(text_encoder: Any) -> Any:
    """The module with the layers, which some classes and releases of transformers have inside `text_model`."""
    return getattr(text_encoder, "text_model", text_encoder)


def encode_pair(shorter: Any, second: Any, ids: Tensor, ids_2: Tensor) -> tuple[Tensor, Tensor]:
    """Both encoders' states before their last layer, side by side (n, positions, width), and the second's pooled state.

    As `encode_prompt` of diffusers' SDXL training scripts; `shorter` is the first encoder `without_last_layer`.
    """
    states = [shorter(ids).last_hidden_state]

    def keep(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])

    hook = inner_model(second).encoder.layers[-1].register_forward_pre_hook(keep, with_kwargs=True)
    try:
        pooled = second(ids_2).text_embeds
    finally:
        hook.remove()
    return torch.cat(states, dim=-1), pooled


class ConditionedUNetXL(ConditionedUNet):
    """The UNet and both text encoders as one model that takes each encoder's token ids; all of its weights are used."""

    def __init__(self, unet: Any, text_encoder: Any, text_encoder_2: Any):
        super().__init__(unet, without_last_layer(text_encoder))
        self.text_encoder_2 = text_encoder_2

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        sample: Tensor,
        timestep: Tensor,
        input_ids: Tensor,
        input_ids_2: Tensor,
        time_ids: Tensor,
        **options: Any,
    ) -> Any:
        states, pooled = encode_pair(self.text_encoder, self.text_encoder_2, input_ids, input_ids_2)
        return self.unet(sample, timestep, states, text_embeds=pooled, time_ids=time_ids, **options)

    @property
    def text_encoders(self) -> tuple[Any, ...]:
        return self.text_encoder, self.text_encoder_2
