"""Low-rank adaptation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adapters.backbone import Projection, count_roles, plays
from adapters.base import Adapter, HookedUpdate, MergeableAttachment
from adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapters.backbone import Backbone


@dataclass(frozen=True)
class Lora(Adapter, name="lora"):
    """Low-rank adaptation: W = W_0 + (alpha / rank) B A, B zero at the start (Hu et al. 2021, arXiv 2106.09685)."""

    size_field = "rank"
    mergeable = True
    examples = (
        {},
        {"rank": 3, "alpha": 8.0, "dropout": 0.1, "targets": ("all",), "init_lora_weights": "gaussian"},
        {"ranks": {"query": 1, "value": 3, "output": 0}, "use_rslora": True},
    )

    rank: int = 4
    """Rank of each update; 4 is the paper's for GPT-2 and diffusers' for Stable Diffusion."""
    alpha: float | None = None
    """Scale of the update: it is multiplied by alpha / rank. Default: the rank, so that the factor is 1."""
    dropout: float = 0.0
    """Share of the update's inputs dropped in training."""
    targets: tuple[str, ...] = ("auto",)
    """Roles of the layers that get an update: attention, self-attention, cross-attention, query, key, value, output,
    feed-forward, convolution, embedding, linear, all; "auto" is what the base's card recommends."""
    ranks: dict[str, int] = field(default_factory=dict)
    """A rank of its own for a role, for example "query 8 value 2"; 0 leaves the role out."""
    init_lora_weights: Literal["kaiming", "gaussian"] = "kaiming"
    """Of A: "kaiming" uniform as loralib and peft do; "gaussian" with deviation 1 / rank."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(rank) (Kalajdzievski 2023, arXiv 2312.03732)."""

    def attach(self, backbone: Backbone) -> LoraAttachment:
        if self.rank < 1 or any(rank < 0 for rank in self.ranks.values()):
            raise AdapterError(f"LoRA's rank must be at least 1, not {self.rank} {self.ranks or ''}".strip())
        if not 0 <= self.dropout < 1:
            raise AdapterError(f"LoRA's dropout must be at least 0 and below 1, not {self.dropout}")
        try:
            chosen = backbone.projections(*self.targets)
        except LookupError as unknown:
            raise AdapterError(f"--adapter.targets: {unknown.args[0]}") from None
        for role in self.ranks:
            if not any(plays(projection, role) for projection in chosen):
                raise AdapterError(f"--adapter.ranks: no targeted layer plays the role '{role}'")
        chosen = [projection for projection in chosen if self.rank_of(projection)]
        updates = {p.key: LowRankUpdate(p, self, self.rank_of(p)) for p in chosen}
        return LoraAttachment(backbone, updates, {"targets": count_roles(chosen)})

    def parameter_count(self, backbone: Backbone) -> int:
        """Sum of rank * (in + out) over the targets; a convolution's A counts its kernel's area."""
        ranks = [(self.rank_of(p), p) for p in backbone.projections(*self.targets)]
        return sum(rank * (p.in_features * math.prod(p.module.weight.shape[2:]) + p.out_features) for rank, p in ranks)

    def rank_of(self, projection: Projection) -> int:
        """The rank for one projection: the last matching entry of `ranks`, else `rank`."""
        ranks = [rank for role, rank in self.ranks.items() if plays(projection, role)]
        return ranks[-1] if ranks else self.rank

    def scaling(self, rank: int) -> float:
        """alpha / rank, or alpha / sqrt(rank) where rank-stabilised; alpha defaults to the rank."""
        alpha = rank if self.alpha is None else self.alpha
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


class LowRankUpdate(HookedUpdate):
    """(alpha / rank) B A added to one projection; A has shape (rank, in), B (out, rank).

    For a convolution A is a kernel (rank, in, height, width) and B one of (out, rank, 1, 1), as in diffusers and peft.
    """

    item_wise = True

    def __init__(self, projection: Projection, settings: Lora, rank: int):
        import torch
        from torch import nn

        weight = projection.module.weight
        place = {"dtype": weight.dtype, "device": weight.device}
        self.projection, self.rank = projection, rank
        self.scaling, self.dropout = settings.scaling(rank), settings.dropout
        self.is_convolution = weight.ndim == 4
        if self.is_convolution and projection.module.groups != 1:
            raise AdapterError(f"LoRA cannot update the grouped convolution '{projection.name}'")
        kernel = tuple(weight.shape[2:])
        down = nn.Parameter(torch.empty(rank, projection.in_features, *kernel, **place))
        if settings.init_lora_weights == "kaiming":
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        else:
            nn.init.normal_(down, std=1 / rank)
        up = nn.Parameter(torch.zeros(projection.out_features, rank, *[1] * len(kernel), **place))
        suffix = "" if projection.rows is None else f"_{projection.part}"
        self.down_name, self.up_name = f"lora_A{suffix}", f"lora_B{suffix}"
        super().__init__(projection.module, {self.down_name: down, self.up_name: up})

    def update(self, args: tuple, kwargs: dict, output: Tensor) -> Tensor:
        import torch.nn.functional as F

        module, down, up = self.module, self[self.down_name], self[self.up_name]
        hidden = F.dropout(args[0], self.dropout, training=module.training) if self.dropout else args[0]
        if self.is_convolution:
            hidden = F.conv2d(hidden, down, None, module.stride, module.padding, module.dilation)
            change = F.conv2d(hidden, up)
        else:
            change = F.linear(F.linear(hidden, down), up)
        if self.projection.rows is None:
            return output + self.scaling * change
        first, last = self.projection.rows
        return output + self.scaling * F.pad(change, (first, output.shape[-1] - last))

    @property
    def module_features(self) -> int:
        """Output features of the whole module, of which a fused one's projection is a part."""
        return self.module.weight.shape[1 if self.projection.transposed else 0]

    def delta(self) -> Tensor:
        """The change of the module's weight, in the weight's own layout and shape."""
        import torch

        down, up = self[self.down_name], self[self.up_name]
        change = self.scaling * (up.flatten(1) @ down.flatten(1))
        if self.is_convolution:
            return change.view_as(self.module.weight)
        if self.projection.rows is not None:
            first, last = self.projection.rows
            change = torch.nn.functional.pad(change, (0, 0, first, self.module_features - last))
        return change.T if self.projection.transposed else change


class LoraAttachment(MergeableAttachment[LowRankUpdate]):
    """LoRA on one model."""

    def changes(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        return ((update.module.weight, update.delta()) for update in self.updates.values())

    def export(self, folder: Path, form: str | None = None) -> list[Path]:
        from adapters.interchange.lora import write_lora

        return write_lora(self, folder, form)

    def begin_from(self, source: Path, adapter: Adapter) -> None:
        from adapters.interchange.lora import read_lora

        read_lora(self, source)

    def rescale(self, factor: float) -> None:
        for update in self.updates.values():
            update.scaling *= factor
