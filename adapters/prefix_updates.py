"""The hooks of prefix-tuning: one on the whole model, and one or two per attention layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapters.backbone import AttentionLayer, Module, Projection
from adapters.errors import AdapterError
from adapters.hooks import HookedUpdate, trained_like

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapters.backbone import Backbone


class SharedPrefix(HookedUpdate):
    """On the whole model: the shared half of the MLP (none if `hidden` is None), and the shift of a language model's
    positions.

    The input's positions start after the prefix, as if the prefix were part of the sequence.
    """

    before = True

    def __init__(self, backbone: Backbone, length: int, hidden: int | None):
        import torch
        from torch import nn

        self.length, self.hidden, self.positions = length, hidden, backbone.positions
        parameters: dict[str, nn.Parameter] = {}
        if hidden is not None:
            like = trained_like(backbone.model)
            embedding = nn.Parameter(torch.randn(length, backbone.width, **like))
            weight, bias = linear(backbone.width, hidden, like)
            parameters = {"embedding": embedding, "hidden": weight, "hidden_bias": bias}
        super().__init__(backbone.model, parameters)

    def states(self) -> Tensor:
        """The MLP's hidden states, (length, hidden)."""
        import torch.nn.functional as F

        return F.linear(self["embedding"], self["hidden"], self["hidden_bias"]).tanh()

    def update(self, args: tuple, kwargs: dict, output: Any):
        import torch

        if self.positions is None:
            return None
        tokens = next(x for x in (*args[:1], kwargs.get("input_ids"), kwargs.get("inputs_embeds")) if x is not None)
        cache, positions = kwargs.get("past_key_values"), kwargs.get("position_ids")
        seen = 0 if cache is None else cache.get_seq_length()
        total = seen + tokens.shape[1]
        if total + self.length > self.positions:
            raise AdapterError(
                f"an input of {total} tokens and a prefix of {self.length} exceed the model's {self.positions} "
                f"positions: {remedy(self.positions - total)}"
            )
        if positions is None:
            positions = torch.arange(seen, total, device=tokens.device)[None]
        return args, {**kwargs, "position_ids": positions + self.length}


def remedy(left: int) -> str:
    """What to do if an input leaves this many positions for the prefix."""
    return f"set --adapter.length to at most {left}" if left > 0 else "shorten the input"


class PrefixUpdate(HookedUpdate):
    """The prefix of one attention layer: keys, values or both, each of shape (heads, length, head_width)."""

    def __init__(self, module: Module, parts: tuple[str, ...], layer: AttentionLayer, shared: SharedPrefix):
        import torch
        from torch import nn

        self.shared, self.parts = shared, parts
        self.shape = (layer.heads, shared.length, layer.head_width)
        self.index = layer.index
        like = trained_like(layer.module)
        parameters = {}
        for part in parts:
            if shared.hidden is not None:
                weight, bias = linear(shared.hidden, layer.heads * layer.head_width, like)
                parameters |= {part: weight, f"{part}_bias": bias}
            else:
                parameters[part] = nn.Parameter(0.02 * torch.randn(*self.shape, **like))
        super().__init__(module, parameters)

    def vectors(self, part: str) -> Tensor:
        """The prefix's keys or values, (heads, length, head_width)."""
        import torch.nn.functional as F

        if self.shared.hidden is None:
            return self[part]
        heads, length, width = self.shape
        rows = F.linear(self.shared.states(), self[part], self[f"{part}_bias"])
        return rows.view(length, heads, width).transpose(0, 1)


class CachePrefix(PrefixUpdate):
    """On an attention module of transformers, whose cache then returns the prefix before all other keys and values.

    The model's own cache never holds the prefix, so generation, beam search and gradient checkpointing (which removes
    the cache) need not know about it.
    """

    before = True

    def update(self, args: tuple, kwargs: dict, output: Any):
        hidden = args[0] if args else kwargs["hidden_states"]
        cache = kwargs.get("past_key_values")
        seen = 0 if cache is None else cache.get_seq_length(self.index)
        mask = widen_mask(kwargs.get("attention_mask"), self.shape[1], hidden.shape[1], seen, hidden.device)
        prefixed = PrefixedCache(self.vectors("key"), self.vectors("value"), cache)
        return args, {**kwargs, "past_key_values": prefixed, "attention_mask": mask}


class PrefixedCache:
    """The cache that one attention layer sees during one call: the prefix, then the model's cache if there is one."""

    def __init__(self, prefix_keys: Tensor, prefix_values: Tensor, cache: Any):
        self.prefix, self.cache = (prefix_keys, prefix_values), cache

    def update(self, keys: Tensor, values: Tensor, layer: int, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Keys and values of shape (batch, heads, length + positions, head_width)."""
        import torch

        if self.cache is not None:
            keys, values = self.cache.update(keys, values, layer, *args, **kwargs)
        batch = keys.shape[0]
        front = [vectors.to(keys.dtype).expand(batch, -1, -1, -1) for vectors in self.prefix]
        return torch.cat([front[0], keys], dim=2), torch.cat([front[1], values], dim=2)


def widen_mask(mask: Tensor | None, length: int, queries: int, seen: int, device: Any) -> Tensor | None:
    """An attention mask (batch, 1, queries, keys) that lets every query see the prefix too; None means causal."""
    import torch

    if mask is None:
        keys = length + seen + queries
        ones = torch.ones(queries, keys, dtype=torch.bool, device=device)
        return None if queries == 1 else ones.tril(length + seen)[None, None]
    return torch.nn.functional.pad(mask, (length, 0), value=1 if mask.dtype == torch.bool else 0)


class ProjectionPrefix(PrefixUpdate):
    """On a key or value layer of diffusers' attention: lengthens its output (batch, positions, features)."""

    def __init__(self, projection: Projection, layer: AttentionLayer, shared: SharedPrefix):
        self.part = projection.part
        super().__init__(projection.module, (projection.part,), layer, shared)

    def update(self, args: tuple, kwargs: dict, output: Tensor) -> Tensor:
        import torch

        rows = self.vectors(self.part).transpose(0, 1).flatten(1).to(output.dtype)
        return torch.cat([rows.expand(output.shape[0], -1, -1), output], dim=1)


def cache_prefixes(backbone: Backbone, shared: SharedPrefix) -> Mapping[str, HookedUpdate]:
    layers = backbone.attention_layers()
    return {layer.name: CachePrefix(layer.module, ("key", "value"), layer, shared) for layer in layers}


def projection_prefixes(backbone: Backbone, shared: SharedPrefix) -> Mapping[str, HookedUpdate]:
    projections = {(p.name.rpartition(".")[0], p.part): p for p in backbone.projections("key", "value")}
    return {
        projections[layer.name, part].name: ProjectionPrefix(projections[layer.name, part], layer, shared)
        for layer in backbone.attention_layers()
        for part in ("key", "value")
    }


def linear(inputs: int, outputs: int, like: Mapping[str, Any]) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight and bias, initialised as in torch's Linear."""
    import torch
    from torch import nn

    bound = 1 / math.sqrt(inputs)
    weight, bias = torch.empty(outputs, inputs, **like), torch.empty(outputs, **like)
    return nn.Parameter(weight.uniform_(-bound, bound)), nn.Parameter(bias.uniform_(-bound, bound))
