"""A UNet whose text encoder trains too: both as one model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from adapters.backbone import checkpoint_transformer

ADDED_CONDITIONS = ("text_embeds", "time_ids")  # of Stable Diffusion XL


class ConditionedUNet(nn.Module):
    """A UNet and its text encoder as one model that takes token ids.

    The parts' names are the prefixes of keys in diffusers' LoRA files: "unet." and "text_encoder.".
    """

    def __init__(self, unet: Any, text_encoder: Any):
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, sample: Tensor, timestep: Tensor, input_ids: Tensor, **options: Any) -> Any:
        return self.unet(sample, timestep, self.text_encoder(input_ids).last_hidden_state, **options)

    @property
    def text_encoders(self) -> tuple[Any, ...]:
        return (self.text_encoder,)

    @property
    def config(self) -> Any:
        return self.unet.config

    @property
    def device(self) -> torch.device:
        return self.unet.device

    def enable_gradient_checkpointing(self) -> None:
        self.unet.enable_gradient_checkpointing()
        for encoder in self.text_encoders:
            checkpoint_transformer(encoder, True)

    def disable_gradient_checkpointing(self) -> None:
        self.unet.disable_gradient_checkpointing()
        for encoder in self.text_encoders:
            checkpoint_transformer(encoder, False)


def take_added_conditions(unet: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """A forward pre-hook: `text_embeds` and `time_ids` become the dictionary that diffusers' UNet takes.

    As arguments of their own they are tensors with a row for each picture, like all others.
    """
    added = {name: kwargs[name] for name in ADDED_CONDITIONS if name in kwargs}
    if not added:
        return args, kwargs
    others = {name: value for name, value in kwargs.items() if name not in added}
    return args, {**others, "added_cond_kwargs": added}
