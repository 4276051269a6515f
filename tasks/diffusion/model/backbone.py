"""A Stable Diffusion as a `Backbone`: its UNet (UNet2DConditionModel), optionally with its text encoders."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapters.backbone import AttentionLayer, Backbone, Block, Projection, Sublayer
from tasks.diffusion.model.conditioned_unet import ConditionedUNet, take_added_conditions
from tasks.diffusion.model.two_text_encoders import ConditionedUNetXL, last_layer_names

# Module names of the UNet (diffusers) and the roles of those layers.
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
    (r"(^|\.)add_embedding\.linear_[12]$", "embedding.added"),  # SDXL: pooled text, sizes and crop
    (r"(^|\.)(conv_in|conv_out|conv1|conv2|conv_shortcut|conv)$", "convolution.kernel"),
    # module names of CLIPTextModel (transformers)
    (r"\.self_attn\.q_proj$", "self-attention.query"),
    (r"\.self_attn\.k_proj$", "self-attention.key"),
    (r"\.self_attn\.v_proj$", "self-attention.value"),
    (r"\.self_attn\.out_proj$", "self-attention.output"),
    (r"\.mlp\.fc1$", "feed-forward.in"),
    (r"\.mlp\.fc2$", "feed-forward.out"),
]
SUBLAYERS = {  # by the class of the transformer block
    "BasicTransformerBlock": {"attn1": "self-attention", "attn2": "cross-attention", "ff": "feed-forward"},
    "CLIPEncoderLayer": {"self_attn": "self-attention", "mlp": "feed-forward"},
}


class StableDiffusionBackbone(Backbone):
    """The UNet of a Stable Diffusion, and its text encoder (SDXL: both) if that trains too.

    Prefix tuning skips the text encoder: CLIP's attention needs as many keys as queries.
    """

    library = "diffusers"

    def __init__(
        self,
        unet: Any,
        recommended_targets: tuple[str, ...] = ("attention",),
        text_encoder: Any = None,
        text_encoder_2: Any = None,
    ):
        self.unet, self.text_encoder, self.text_encoder_2 = unet, text_encoder, text_encoder_2
        self.recommended_targets = recommended_targets
        self.is_xl = unet.config.addition_embed_type == "text_time"
        if self.is_xl:
            unet.register_forward_pre_hook(take_added_conditions, with_kwargs=True)
        if text_encoder is None:
            self.model = unet
        elif text_encoder_2 is None:
            self.model = ConditionedUNet(unet, text_encoder)
        else:
            self.model = ConditionedUNetXL(unet, text_encoder, text_encoder_2)
            self.unread = last_layer_names(text_encoder)

    def all_projections(self) -> list[Projection]:
        projections = []
        for name, module in self.model.named_modules():
            role = next((role for pattern, role in ROLES if re.search(pattern, name)), None)
            if role is not None and isinstance(module, nn.Linear | nn.Conv2d):
                is_linear = isinstance(module, nn.Linear)  # a quantised weight is stored in another shape
                rows = module.out_features if is_linear else module.weight.shape[0]
                columns = module.in_features if is_linear else module.weight.shape[1]
                projections.append(Projection(name, module, role, columns, rows))
        return projections

    def in_order_of_use(self, projections: Sequence[Projection]) -> list[Projection]:
        """diffusers' UNet lists its middle block after the up blocks, which use its output."""
        return sorted(projections, key=lambda projection: projection.name.startswith(("up_blocks", "conv_out")))

    def blocks(self) -> list[Block]:
        return [
            Block(name, module, tuple(self._sublayers(name, module)))
            for name, module in self.model.named_modules()
            if type(module).__name__ in SUBLAYERS
        ]

    def _sublayers(self, name: str, block: Any) -> list[Sublayer]:
        kinds = SUBLAYERS[type(block).__name__]
        width = (block.norm1 if hasattr(block, "norm1") else block.layer_norm1).normalized_shape[0]
        present = [child for child in kinds if getattr(block, child, None) is not None]
        return [Sublayer(f"{name}.{child}", getattr(block, child), kinds[child], width) for child in present]

    def attention_layers(self) -> list[AttentionLayer]:
        blocks = [block for block in self.blocks() if type(block.module).__name__ == "BasicTransformerBlock"]
        sublayers = [s for block in blocks for s in block.sublayers if s.kind != "feed-forward"]
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
        if self.text_encoder is None:
            text = {"encoder_hidden_states": torch.randn(2, 7, config.cross_attention_dim, generator=generator)}
        else:
            text = {"input_ids": torch.randint(self.text_encoder.config.vocab_size, (2, 7), generator=generator)}
        if self.is_xl:
            text |= self._example_added(generator)
        sample = torch.randn(2, config.in_channels, size, size, generator=generator)
        return {"sample": sample, "timestep": torch.tensor([10, 500]), **text}

    def _example_added(self, generator: torch.Generator | None) -> dict[str, Tensor]:
        """SDXL's further conditions: the pooled text, or the second text encoder's tokens; sizes and crop."""
        config = self.model.config
        sizes = torch.randint(1, 100, (2, 6), generator=generator).float()
        if self.text_encoder_2 is not None:
            text = self.text_encoder_2.config
            tokens = torch.randint(text.vocab_size, (2, 7), generator=generator)
            tokens[:, -1] = text.eos_token_id  # whose state is the pooled one
            return {"input_ids_2": tokens, "time_ids": sizes}
        width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        return {"text_embeds": torch.randn(2, width, generator=generator), "time_ids": sizes}
