"""Tiny random models of each kind of backbone, with weights large enough for every part to matter."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from adapters.backbone import Backbone
from tasks.language.model.backbone import CausalLanguageModel


def gpt2(width: int = 32, layers: int = 2, heads: int = 4, **overrides) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = {"vocab_size": 64, "n_positions": 64, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    tokens = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = GPT2Config(**{"n_embd": width, "n_layer": layers, "n_head": heads, **settings, **tokens, **overrides})
    return GPT2LMHeadModel(config)


def llama(width: int = 32, layers: int = 2, heads: int = 4, **overrides) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {"vocab_size": 64, "max_position_embeddings": 64, "intermediate_size": 2 * width}
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": 2}
    biases = {"attention_bias": True, "mlp_bias": True}
    tokens = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    return LlamaForCausalLM(LlamaConfig(**{**settings, **shape, **biases, **tokens, **overrides}))


def unet(**overrides) -> nn.Module:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 24,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
        "use_linear_projection": True,
    }
    return UNet2DConditionModel(**{**settings, **overrides})


def unet_xl() -> nn.Module:
    """As SDXL's: text states of 24 + 16 features, a pooled text of 12, sizes and crop."""
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    sizes = {"cross_attention_dim": 40, "projection_class_embeddings_input_dim": 12 + 6 * 8}
    return unet(transformer_layers_per_block=(1, 2), **added, **sizes)


def clip(
    vocab_size: int = 64, hidden_size: int = 24, projection_dim: int | None = None, positions: int = 16
) -> nn.Module:
    """A CLIP text encoder; with a projection it is SDXL's second one."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=positions,
        projection_dim=projection_dim or hidden_size,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModel(config) if projection_dim is None else CLIPTextModelWithProjection(config)


def stable_diffusion() -> Backbone:
    from tasks.diffusion.model.backbone import StableDiffusionBackbone

    return StableDiffusionBackbone(unet())


def with_text_encoder() -> Backbone:
    """A UNet with its text encoder, a CLIPTextModel, both trainable."""
    from tasks.diffusion.model.backbone import StableDiffusionBackbone

    return StableDiffusionBackbone(unet(), text_encoder=clip())


def stable_diffusion_xl() -> Backbone:
    from tasks.diffusion.model.backbone import StableDiffusionBackbone

    return StableDiffusionBackbone(unet_xl())


def xl_with_text_encoders() -> Backbone:
    """SDXL's UNet with both text encoders, all trainable."""
    from tasks.diffusion.model.backbone import StableDiffusionBackbone

    return StableDiffusionBackbone(
        unet_xl(), text_encoder=clip(), text_encoder_2=clip(hidden_size=16, projection_dim=12)
    )


BUILDERS: dict[str, Callable[[], Backbone]] = {
    "gpt2": lambda: CausalLanguageModel(gpt2()),
    "llama": lambda: CausalLanguageModel(llama()),
    "unet": stable_diffusion,
    "unet+clip": with_text_encoder,
    "xl+clips": xl_with_text_encoders,
}
USUAL = ("gpt2", "llama", "unet+clip")
"""Together they contain every kind of layer; the contract's tests run on the others each night."""

ALL = {**BUILDERS, "xl": stable_diffusion_xl}  # its UNet alone


@cache
def built(kind: str) -> Backbone:
    """The backbone of a kind, in evaluation mode. Copy it before use."""
    torch.manual_seed(0)
    backbone = ALL[kind]()
    with torch.no_grad():
        for parameter in backbone.model.parameters():  # so that biases and norms are not zeros and ones
            parameter.add_(0.1 * torch.randn_like(parameter))
    backbone.model.eval()
    return backbone


def example(backbone: Backbone) -> dict[str, Tensor]:
    """The same small input each time, in the model's dtype."""
    dtype = next(backbone.model.parameters()).dtype
    inputs = backbone.example_input(torch.Generator().manual_seed(1))
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in inputs.items()}


def output(backbone: Backbone, wrapped: nn.Module | None = None) -> Tensor:
    """The output of the model, or of its wrapped form, for the example: logits or predicted noise."""
    return (wrapped or backbone.model)(**example(backbone))[0]


def loss(backbone: Backbone, wrapped: nn.Module | None = None) -> Tensor:
    """A scalar that depends on every element of the output differently."""
    result = output(backbone, wrapped).float()
    target = torch.randn(result.shape, generator=torch.Generator().manual_seed(2))
    return (result - target).square().mean()
