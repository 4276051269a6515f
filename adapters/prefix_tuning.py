"""Prefix-tuning: trained keys and values in front of those of every attention layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.base import Adapter, settings_of
from adapters.bounds import LARGEST_WIDTH, bounded
from adapters.errors import AdapterError
from adapters.hooks import HookedAttachment, HookedUpdate
from adapters.prefix_updates import PrefixUpdate, SharedPrefix, cache_prefixes, projection_prefixes

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone
    from adapters.interchange.exported_file import ExportedFile


@dataclass(frozen=True)
class PrefixTuning(Adapter, name="prefix"):
    """Prefix-tuning: trained keys and values that every token attends to, in front of those of each attention layer
    (Li & Liang 2021, arXiv 2101.00190)."""

    size_field = "length"
    formats = ("peft",)
    starts_as_identity = False  # even an untrained prefix takes a share of the attention
    other_names = ("prefix-tuning", "prefix_tuning", "prefixtuning", "soft-prompt")
    examples = ({}, {"length": 3, "reparametrisation": True, "hidden": 8})

    length: int = bounded(16, at_least=1, at_most=LARGEST_WIDTH)
    """Number of prefix positions. A language model loses as many positions for its input."""
    reparametrisation: bool = False
    """Compute the prefix from a smaller matrix by an MLP shared between layers (section 4.3 of the paper). It needs
    much lower learning rates: the paper's are 5e-5 to 8e-5 on GPT-2."""
    hidden: int = bounded(512, at_least=1, at_most=LARGEST_WIDTH)
    """Hidden width of that MLP."""

    @property
    def positions_taken(self) -> int:
        return self.length

    def attach(self, backbone: Backbone) -> PrefixAttachment:
        self.check(backbone)
        prefixes = {"transformers": cache_prefixes, "diffusers": projection_prefixes}[backbone.library]
        shared = SharedPrefix(backbone, self.length, self.hidden if self.reparametrisation else None)
        updates: dict[str, HookedUpdate] = {"shared": shared, **prefixes(backbone, shared)}
        left = None if backbone.positions is None else backbone.positions - self.length
        return PrefixAttachment(backbone, updates, {"positions_left": left})

    def check(self, backbone: Backbone) -> None:
        """Raise AdapterError if this prefix cannot work on this model."""
        positions, kind = backbone.positions, getattr(backbone.model.config, "_attn_implementation", "sdpa")
        if positions is not None and self.length >= positions:
            raise AdapterError(
                f"a prefix of {self.length} leaves no room for input: this model has {positions} positions; "
                f"set --adapter.length below {positions}"
            )
        if backbone.library == "transformers" and kind not in ("sdpa", "eager"):
            raise AdapterError(
                f"prefix-tuning needs sdpa or eager attention, not '{kind}': load the model with one of them"
            )

    def parameter_count(self, backbone: Backbone) -> int:
        """2 * length * heads * head_width per layer; with the MLP, its own parameters and those of its outputs."""
        features = sum(2 * layer.heads * layer.head_width for layer in backbone.attention_layers())
        if not self.reparametrisation:
            return self.length * features
        return (self.length + self.hidden) * backbone.width + self.hidden + (self.hidden + 1) * features


class PrefixAttachment(HookedAttachment[HookedUpdate]):
    """A prefix on one model."""

    def vectors(self) -> dict[str, Tensor]:
        """The prefix's keys and values by layer, on the CPU; computed by the MLP if there is one."""
        vectors = {}
        for name, update in self.updates.items():
            if isinstance(update, PrefixUpdate):
                vectors |= {f"{name}.{part}": update.vectors(part).detach().cpu() for part in update.parts}
        return vectors

    def export(self, format: str | None = None) -> list[ExportedFile]:
        from adapters.interchange.prefix import export_prefix

        return export_prefix(self.vectors(), self.backbone, format)

    def initialise_from(self, source: Path, adapter: Adapter) -> None:
        from adapters.interchange.prefix import read_prefix

        self.load(read_prefix(source, self.state(), settings_of(adapter)))
