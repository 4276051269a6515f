"""Low-rank adaptation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adapters.backbone import Projection, count_roles, plays
from adapters.base import Adapter, projections_of
from adapters.bounds import BOUNDS, LARGEST_WIDTH, Bounds, bounded
from adapters.errors import AdapterError
from adapters.hooks import HookedUpdate, MergeableAttachment, trained_like

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapters.backbone import Backbone
    from adapters.interchange.exported_file import ExportedFile

LARGEST_ALPHA = 1e18  # a scale above it is infinite in half precision or soon in training


def _through_peft(option: str) -> str:
    """The hint for a variant of LoRA that peft implements."""
    return f"use peft's LoRA: `peft TASK --adapter.method lora --adapter.options '{{\"r\": 8, {option}}}'`"


@dataclass(frozen=True)
class Lora(Adapter, name="lora"):
    """Low-rank adaptation: W = W_0 + (alpha / rank) B A, with B initially zero (Hu et al. 2021, arXiv 2106.09685)."""

    size_field = "rank"
    mergeable = True
    formats = ("diffusers", "kohya", "peft")
    other_names = ("low-rank", "low-rank-adaptation", "loralib")
    first_defaults: ClassVar[Mapping[str, Any]] = {"alpha": "rank"}
    option_hints: ClassVar[Mapping[str, str]] = {
        "dora": "use the method `dora`",
        "use_dora": "use the method `dora`",
        "pissa": "use the method `pissa`",
        "bias": _through_peft('"bias": "lora_only"'),
        "modules_to_save": _through_peft('"modules_to_save": ["lm_head"]'),
        "layers_to_transform": _through_peft('"layers_to_transform": [0, 1]'),
    }
    examples = (
        {},
        {"rank": 3, "alpha": 8.0, "dropout": 0.1, "targets": ("all",), "init_lora_weights": "gaussian"},
        {"ranks": {"query": 1, "value": 3, "output": 0}, "use_rslora": True},
    )

    rank: int = bounded(4, at_least=1, at_most=LARGEST_WIDTH)
    """Rank of each update; the paper uses 4 for GPT-2, and diffusers uses 4 for Stable Diffusion."""
    alpha: float | Literal["rank"] = bounded(16.0, above=0, at_most=LARGEST_ALPHA, words=("rank",))
    """Numerator of the scale alpha / rank of each update, or "rank" for a scale of 1 at every rank, as in diffusers'
    scripts. The effect of Adam's first step is in proportion to alpha times the learning rate: with a fixed alpha it is
    the same at every rank, so that ranks can share a rate; with "rank" it grows with the rank. A base's card has the
    rate for the default alpha; with another, give --train.learning-rate."""
    dropout: float = bounded(0.0, at_least=0, below=1)
    """Dropout probability of each update's inputs in training."""
    targets: tuple[str, ...] = ("auto",)
    """Roles of the layers to update: attention, self-attention, cross-attention, query, key, value, output,
    feed-forward, convolution, embedding, linear, all, or the key of a single layer
    (transformer.h.0.attn.c_attn:query); "auto" takes what the base's card recommends."""
    ranks: dict[str, int] = field(default_factory=dict, metadata={BOUNDS: Bounds(at_least=0, at_most=LARGEST_WIDTH)})
    """Ranks that differ from --adapter.rank, by role, for example "query 8 value 2"; 0 skips the role."""
    init_lora_weights: Literal["kaiming", "gaussian"] = "kaiming"
    """Initialisation of A: "kaiming" uniform, as in loralib and peft, or "gaussian" with deviation 1 / rank."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(rank) (rank-stabilised LoRA, Kalajdzievski 2023, arXiv 2312.03732), which is meant for a
    fixed alpha: with --adapter.alpha rank the scale is sqrt(rank)."""

    def attach(self, backbone: Backbone) -> LoraAttachment:
        chosen = projections_of(backbone, "--adapter.targets", self.targets)
        projections_of(backbone, "--adapter.ranks", self.ranks)
        for role in self.ranks:
            if not any(plays(projection, role) for projection in chosen):
                raise AdapterError(
                    f"--adapter.ranks: no targeted layer has the role '{role}': add it to --adapter.targets"
                )
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
        """alpha / rank, or alpha / sqrt(rank) with rsLoRA."""
        from adapters.interchange.factors import lora_scaling

        return lora_scaling(rank, rank if self.alpha == "rank" else self.alpha, self.use_rslora)


class LowRankUpdate(HookedUpdate):
    """Adds (alpha / rank) B A to one projection; A has shape (rank, in), B (out, rank).

    For a convolution, A is a kernel (rank, in, height, width) and B (out, rank, 1, 1), as in diffusers and peft.
    """

    item_wise = True

    def __init__(self, projection: Projection, settings: Lora, rank: int):
        import torch
        from torch import nn

        weight = projection.module.weight
        like = trained_like(projection.module)
        self.projection, self.rank = projection, rank
        self.scaling, self.dropout = settings.scaling(rank), settings.dropout
        self.is_convolution = weight.ndim == 4
        if self.is_convolution and projection.module.groups != 1:
            raise AdapterError(
                f"LoRA cannot update the grouped convolution '{projection.name}': leave it out of --adapter.targets"
            )
        kernel = tuple(weight.shape[2:])
        down = nn.Parameter(torch.empty(rank, projection.in_features, *kernel, **like))
        if settings.init_lora_weights == "kaiming":
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        else:
            nn.init.normal_(down, std=1 / rank)
        up = nn.Parameter(torch.zeros(projection.out_features, rank, *[1] * len(kernel), **like))
        suffix = "" if projection.rows is None else f"_{projection.part}"
        self.down_name, self.up_name = f"lora_A{suffix}", f"lora_B{suffix}"
        super().__init__(projection.module, {self.down_name: down, self.up_name: up})

    def update(self, args: tuple, kwargs: dict, output: Tensor) -> Tensor:
        import torch.nn.functional as F

        module, hidden = self.module, args[0]
        down, up = self.cast(self.down_name, hidden), self.cast(self.up_name, hidden)
        hidden = F.dropout(hidden, self.dropout, training=module.training) if self.dropout else hidden
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
    def down(self) -> nn.Parameter:
        """A."""
        return self[self.down_name]

    @property
    def up(self) -> nn.Parameter:
        """B."""
        return self[self.up_name]

    @property
    def module_features(self) -> int:
        """Output features of the whole module; the projection of a fused module is only a part of them."""
        return self.module.weight.shape[1 if self.projection.transposed else 0]

    def delta(self) -> Tensor:
        """The change of the module's weight, in the weight's layout and shape."""
        import torch

        change = self.scaling * (self.up.flatten(1) @ self.down.flatten(1))
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

    def export(self, format: str | None = None) -> list[ExportedFile]:
        from adapters.interchange.lora import export_lora

        return export_lora(self.updates, self.backbone, format)

    def initialise_from(self, source: Path, adapter: Adapter) -> None:
        from adapters.interchange.lora import load_lora

        load_lora(self.updates, self.backbone, source, adapter.name)

    def rescale(self, factor: float) -> None:
        for update in self.updates.values():
            update.scaling *= factor
