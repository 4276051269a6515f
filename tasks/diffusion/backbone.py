"""A Stable Diffusion UNet (diffusers' UNet2DConditionModel) as a `Backbone`."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from adapters.backbone import AttentionLayer, Backbone, Block, Projection, Sublayer

# The UNet's module names (diffusers) and the roles that its layers play.
ROLES = [
    (r"\.attn1\.to_q$", "self-attention.query"),
    (r"\.attn1\.to_k$", "self-attention.key"),
    (r"\.attn1\.to_v$", "self-attention.value"),
    (r"\.attn1\.to_out\.0$", "self-attention.output"),
    (r"\.attn2\.to_q$", "cross-attention.query"),
    (r"\.attn2\.to_k$", "cross-attention.key"),
    (r"\.attn2\.to_v$", "cross-attention.value"),
    (r"\.attn2\.to_out\.0$", "cross-attention.output"),
    (r"\.ff\.net\.0\.proj$", "feed-forward.in"),
    (r"\.ff\.net\.2$", "feed-forward.out"),
    (r"\.proj_in$", "projection.in"),
    (r"\.proj_out$", "projection.out"),
    (r"(^|\.)(time_emb_proj|time_embedding\.linear_[12])$", "embedding.time"),
    (r"(^|\.)(conv_in|conv_out|conv1|conv2|conv_shortcut|conv)$", "convolution.kernel"),
]
KINDS = {"attn1": "self-attention", "attn2": "cross-attention", "ff": "feed-forward"}


class StableDiffusionBackbone(Backbone):
    """The UNet of a Stable Diffusion; its transformer blocks are diffusers' BasicTransformerBlocks."""

    library = "diffusers"

    def __init__(self, unet: Any, recommended_targets: tuple[str, ...] = ("attention",)):
        self.model = unet
        self.recommended_targets = recommended_targets

    def all_projections(self) -> list[Projection]:
        found = []
        for name, module in self.model.named_modules():
            role = next((role for pattern, role in ROLES if re.search(pattern, name)), None)
            if role is not None and isinstance(module, nn.Linear | nn.Conv2d):
                rows, columns = module.weight.shape[:2]
                found.append(Projection(name, module, role, columns, rows))
        return found

    def blocks(self) -> list[Block]:
        return [
            Block(name, module, tuple(self._sublayers(name, module)))
            for name, module in self.model.named_modules()
            if type(module).__name__ == "BasicTransformerBlock"
        ]

    def _sublayers(self, name: str, block: Any) -> list[Sublayer]:
        width = block.norm1.normalized_shape[0]
        present = [own for own in KINDS if getattr(block, own, None) is not None]
        return [Sublayer(f"{name}.{own}", getattr(block, own), KINDS[own], width) for own in present]

    def attention_layers(self) -> list[AttentionLayer]:
        sublayers = [s for block in self.blocks() for s in block.sublayers if s.kind != "feed-forward"]
        return [
            AttentionLayer(s.name, s.module, s.kind, s.module.heads, s.module.inner_dim // s.module.heads, index)
            for index, s in enumerate(sublayers)
        ]

    @property
    def width(self) -> int:
        return max(self.model.config.block_out_channels)

    @property
    def positions(self) -> int | None:
        return None

    def example_input(self, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        config = self.model.config
        size = config.sample_size
        states = torch.randn(2, 7, config.cross_attention_dim, generator=generator)
        sample = torch.randn(2, config.in_channels, size, size, generator=generator)
        return {"sample": sample, "timestep": torch.tensor([10, 500]), "encoder_hidden_states": states}
