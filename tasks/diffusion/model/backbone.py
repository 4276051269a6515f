"""A Stable Diffusion as a `Backbone`: its UNet (UNet2DConditionModel), optionally with its text encoder."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from adapters.backbone import AttentionLayer, Backbone, Block, Projection, Sublayer, checkpoint_transformer

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
    def config(self) -> Any:
        return self.unet.config

    @property
    def device(self) -> torch.device:
        return self.unet.device

    def enable_gradient_checkpointing(self) -> None:
        self.unet.enable_gradient_checkpointing()
        checkpoint_transformer(self.text_encoder, True)

    def disable_gradient_checkpointing(self) -> None:
        self.unet.disable_gradient_checkpointing()
        checkpoint_transformer(self.text_encoder, False)


class StableDiffusionBackbone(Backbone):
    """The UNet of a Stable Diffusion, and its text encoder if that trains too.

    Prefix tuning skips the text encoder: CLIP's attention needs as many keys as queries.
    """

    library = "diffusers"

    def __init__(self, unet: Any, recommended_targets: tuple[str, ...] = ("attention",), text_encoder: Any = None):
        self.unet, self.text_encoder = unet, text_encoder
        self.model = unet if text_encoder is None else ConditionedUNet(unet, text_encoder)
        self.recommended_targets = recommended_targets

    def all_projections(self) -> list[Projection]:
        projections = []
        for name, module in self.model.named_modules():
            role = next((role for pattern, role in ROLES if re.search(pattern, name)), None)
            if role is not None and isinstance(module, nn.Linear | nn.Conv2d):
                rows, columns = module.weight.shape[:2]
                projections.append(Projection(name, module, role, columns, rows))
        return projections

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
        sample = torch.randn(2, config.in_channels, size, size, generator=generator)
        return {"sample": sample, "timestep": torch.tensor([10, 500]), **text}
