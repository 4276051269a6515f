"""The text encoders of Stable Diffusion XL, alone and as one model with the UNet."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tasks.diffusion.model.conditioned_unet import ConditionedUNet


def encode_pair(first: Any, second: Any, ids: Tensor, ids_2: Tensor) -> tuple[Tensor, Tensor]:
    """Both encoders' states before the last layer, side by side (n, positions, width), and the second's pooled state.

    As `encode_prompt` of diffusers' SDXL training scripts.
    """
    outputs = [encoder(tokens, output_hidden_states=True) for encoder, tokens in ((first, ids), (second, ids_2))]
    return torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), outputs[1].text_embeds


class ConditionedUNetXL(ConditionedUNet):
    """The UNet and both text encoders as one model that takes each encoder's token ids."""

    def __init__(self, unet: Any, text_encoder: Any, text_encoder_2: Any):
        super().__init__(unet, text_encoder)
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
