"""Bottleneck adapters: small layers after the sublayers of each transformer block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from adapters.backbone import Sublayer
from adapters.base import Adapter
from adapters.bounds import LARGEST_WIDTH, bounded
from adapters.hooks import HookedAttachment, HookedUpdate, trained_like

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone


@dataclass(frozen=True)
class Bottleneck(Adapter, name="bottleneck"):
    """Bottleneck adapters: h + W_up f(W_down h) after a sublayer, before its residual sum, with W_up initially
    zero (Houlsby et al. 2019, arXiv 1902.00751; Pfeiffer et al. 2020, arXiv 2005.00247; Lin et al. 2020,
    arXiv 2004.03829)."""

    size_field = "width"
    formats = ()
    other_names = ("adapter", "adapters", "bottleneck-adapter", "houlsby", "pfeiffer")
    option_hints: ClassVar[Mapping[str, str]] = {
        "rank": "use --adapter.width, the width of each bottleneck",
        "r": "use --adapter.width, the width of each bottleneck",
        "reduction_factor": "use --adapter.width: the model's width divided by the reduction factor",
        "non_linearity": "use --adapter.activation",
    }
    examples = (
        {},
        {"width": 3, "placement": "pfeiffer", "layer_norm": True, "activation": "relu"},
    )

    width: int = bounded(16, at_least=1, at_most=LARGEST_WIDTH)
    """Width of the bottleneck."""
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    """"houlsby": after each sublayer (attention and feed-forward; in a UNet self-attention, cross-attention and
    feed-forward); "pfeiffer": after the feed-forward only, one per block, as in Lin et al. too."""
    layer_norm: bool = False
    """Put a trained layer norm before each bottleneck, as in Lin et al."""
    activation: Literal["gelu", "relu", "silu", "tanh"] = "gelu"
    """The non-linearity f."""

    def attach(self, backbone: Backbone) -> HookedAttachment:
        chosen = self.sublayers(backbone)
        updates = {sublayer.name: BottleneckUpdate(sublayer, self) for sublayer in chosen}
        return HookedAttachment(backbone, updates, {"bottlenecks": len(chosen)})

    def sublayers(self, backbone: Backbone) -> list[Sublayer]:
        """The sublayers that a bottleneck follows."""
        sublayers = [sublayer for block in backbone.blocks() for sublayer in block.sublayers]
        return sublayers if self.placement == "houlsby" else [s for s in sublayers if s.kind == "feed-forward"]

    def parameter_count(self, backbone: Backbone) -> int:
        """2 d m + m + d per bottleneck, and 2 d for its layer norm (Hu et al. 2021, section 5.1)."""
        norm = 2 if self.layer_norm else 0
        widths = [sublayer.width for sublayer in self.sublayers(backbone)]
        return sum(2 * width * self.width + self.width + width + norm * width for width in widths)


class BottleneckUpdate(HookedUpdate):
    """Adds W_up f(W_down h + b_down) + b_up to a sublayer's output h of shape (..., d); W_down has shape (m, d)."""

    item_wise = True

    def __init__(self, sublayer: Sublayer, settings: Bottleneck):
        import torch
        from torch import nn

        like = trained_like(sublayer.module)
        self.settings = settings
        parameters = {
            "down": nn.Parameter(torch.empty(settings.width, sublayer.width, **like)),
            "down_bias": nn.Parameter(torch.zeros(settings.width, **like)),
            "up": nn.Parameter(torch.zeros(sublayer.width, settings.width, **like)),
            "up_bias": nn.Parameter(torch.zeros(sublayer.width, **like)),
        }
        nn.init.kaiming_uniform_(parameters["down"], a=math.sqrt(5))
        if settings.layer_norm:
            parameters["norm"] = nn.Parameter(torch.ones(sublayer.width, **like))
            parameters["norm_bias"] = nn.Parameter(torch.zeros(sublayer.width, **like))
        super().__init__(sublayer.module, parameters)

    def update(self, args: tuple, kwargs: dict, output):
        # transformers' attention returns (hidden states, attention weights), other sublayers the hidden states
        if isinstance(output, tuple):
            return (output[0] + self.change(output[0]), *output[1:])
        return output + self.change(output)

    def change(self, hidden: Tensor) -> Tensor:
        import torch.nn.functional as F

        activation = getattr(F, self.settings.activation)
        if self.settings.layer_norm:
            normed = F.layer_norm(hidden.float(), hidden.shape[-1:], self["norm"].float(), self["norm_bias"].float())
            hidden = normed.to(hidden.dtype)
        narrow = activation(F.linear(hidden, self.cast("down", hidden), self.cast("down_bias", hidden)))
        return F.linear(narrow, self.cast("up", narrow), self.cast("up_bias", narrow))
