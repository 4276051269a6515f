"""transformers' causal language models as a `Backbone`: the layouts of GPT-2 and of Llama, which most others share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapters.backbone import AttentionLayer, Backbone, Block, Module, Projection, Sublayer
from tasks.errors import TaskError

SELF_ATTENTION, FEED_FORWARD = "self-attention", "feed-forward"


@dataclass(frozen=True)
class Layout:
    """Module names of an architecture; a fused module holds several projections, as blocks of rows."""

    blocks: str
    attention: str
    feed_forward: str
    projections: Mapping[str, tuple[str, ...]]  # name within the block: the roles of its rows


GPT2 = Layout(
    "transformer.h",
    "attn",
    "mlp",
    {
        "attn.c_attn": ("self-attention.query", "self-attention.key", "self-attention.value"),
        "attn.c_proj": ("self-attention.output",),
        "mlp.c_fc": ("feed-forward.in",),
        "mlp.c_proj": ("feed-forward.out",),
    },
)
LLAMA = Layout(
    "model.layers",
    "self_attn",
    "mlp",
    {
        "self_attn.q_proj": ("self-attention.query",),
        "self_attn.k_proj": ("self-attention.key",),
        "self_attn.v_proj": ("self-attention.value",),
        "self_attn.o_proj": ("self-attention.output",),
        "mlp.gate_proj": ("feed-forward.gate",),
        "mlp.up_proj": ("feed-forward.in",),
        "mlp.down_proj": ("feed-forward.out",),
    },
)


class CausalLanguageModel(Backbone):
    """A causal language model whose blocks are named like GPT-2's or Llama's (Mistral, Qwen, SmolLM, ...).

    Raises TaskError for another architecture.
    """

    library = "transformers"

    def __init__(self, model: nn.Module, recommended_targets: tuple[str, ...] = ("attention",)):
        self.model = model
        self.recommended_targets = recommended_targets
        self._layout = find_layout(model)

    def _block_modules(self) -> Iterator[tuple[str, Module]]:
        layers = self.model.get_submodule(self._layout.blocks)
        return ((f"{self._layout.blocks}.{name}", module) for name, module in layers.named_children())

    def all_projections(self) -> list[Projection]:
        return [
            projection
            for name, block in self._block_modules()
            for part, roles in self._layout.projections.items()
            for projection in split(f"{name}.{part}", block.get_submodule(part), roles)
        ]

    def blocks(self) -> list[Block]:
        kinds = {self._layout.attention: SELF_ATTENTION, self._layout.feed_forward: FEED_FORWARD}
        return [
            Block(
                name,
                block,
                tuple(
                    Sublayer(f"{name}.{part}", getattr(block, part), kind, self.width) for part, kind in kinds.items()
                ),
            )
            for name, block in self._block_modules()
        ]

    def attention_layers(self) -> list[AttentionLayer]:
        config = self.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        attention = self._layout.attention
        return [
            AttentionLayer(f"{name}.{attention}", getattr(block, attention), SELF_ATTENTION, heads, head_width, index)
            for index, (name, block) in enumerate(self._block_modules())
        ]

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    @property
    def positions(self) -> int | None:
        return self.model.config.max_position_embeddings

    def example_input(self, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Two sequences of up to eight tokens; the second is padded on the right by two."""
        config = self.model.config
        length = min(8, config.max_position_embeddings)
        tokens = torch.randint(config.vocab_size, (2, length), generator=generator)
        mask = torch.ones_like(tokens)
        mask[1, length - min(2, length - 1) :] = 0
        return {"input_ids": tokens, "attention_mask": mask}


def find_layout(model: nn.Module) -> Layout:
    """The layout of the model's blocks. Raises TaskError for an unknown architecture."""
    for layout in (GPT2, LLAMA):
        try:
            layers = model.get_submodule(layout.blocks)
            for block in layers.children():
                for name in layout.projections:
                    block.get_submodule(name)
        except AttributeError:
            continue
        return layout
    raise TaskError(
        f"{type(model).__name__} is not supported: expected a causal language model with GPT-2's blocks "
        "(transformer.h, attn.c_attn) or Llama's (model.layers, self_attn.q_proj)"
    )


def split(name: str, module: nn.Module, roles: tuple[str, ...]) -> Iterator[Projection]:
    """The projections in one module: its output features divided equally among the roles."""
    transposed = isinstance(module, Conv1D)
    layer: Any = module
    # (in, out); a quantised weight is stored in another shape
    features = tuple(layer.weight.shape) if transposed else (layer.in_features, layer.out_features)
    share = features[1] // len(roles)
    for index, role in enumerate(roles):
        rows = (index * share, (index + 1) * share) if len(roles) > 1 else None
        yield Projection(name, module, role, features[0], share, transposed, rows)
