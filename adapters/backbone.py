"""`Backbone`: all that an adapter may know of a model. It hides GPT-2's Conv1D, Linear layers and the UNet's names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Module = Any  # a torch.nn.Module whose attributes (weight, config, heads, ...) a type checker cannot know

ATTENTION_PARTS = ("query", "key", "value", "output")

# A role is "group.part"; adapters name roles by group, by part, or by these words for several groups.
ROLE_GROUPS: Mapping[str, tuple[str, ...]] = {
    "attention": ("self-attention", "cross-attention"),
    "self-attention": ("self-attention",),
    "cross-attention": ("cross-attention",),
    "feed-forward": ("feed-forward",),
    "convolution": ("convolution",),
    "embedding": ("embedding",),
    "projection": ("projection",),
    "linear": ("self-attention", "cross-attention", "feed-forward"),
    "all": ("self-attention", "cross-attention", "feed-forward", "convolution", "embedding", "projection"),
}


@dataclass(frozen=True)
class Projection:
    """One weight matrix (or convolution kernel) with the roles that it plays.

    A fused matrix (GPT-2's `c_attn`) is one module with several projections: `rows` is the slice of the module's
    output features that this projection gives, or None for all of them. `transposed` says that the weight is stored
    as (in, out), as GPT-2's Conv1D does.
    """

    name: str
    module: Module
    role: str
    in_features: int
    out_features: int
    transposed: bool = False
    rows: tuple[int, int] | None = None

    @property
    def group(self) -> str:
        return self.role.split(".")[0]

    @property
    def part(self) -> str:
        return self.role.split(".")[-1]

    @property
    def key(self) -> str:
        """A name of its own: the module's, and the part where the module is fused."""
        return self.name if self.rows is None else f"{self.name}:{self.part}"


@dataclass(frozen=True)
class Sublayer:
    """A module whose output is added to a block's residual stream: what bottleneck adapters follow."""

    name: str
    module: Module
    kind: str  # "self-attention", "cross-attention" or "feed-forward"
    width: int


@dataclass(frozen=True)
class Block:
    """One transformer block: its sublayers in order."""

    name: str
    module: Module
    sublayers: tuple[Sublayer, ...]


@dataclass(frozen=True)
class AttentionLayer:
    """One attention layer, as prefix-tuning needs it: keys and values have shape (batch, heads, positions, head_width).

    `index` numbers the self-attention layers of a language model as its key-value cache does.
    """

    name: str
    module: Module
    kind: str  # "self-attention" or "cross-attention"
    heads: int  # key-value heads
    head_width: int
    index: int


class Backbone(ABC):
    """A pretrained model seen through the words of the adapters' papers."""

    model: Module
    library: str  # "transformers" or "diffusers": which library's files an export serves
    recommended_targets: tuple[str, ...] = ("attention",)  # what the base's card recommends for low-rank updates

    @abstractmethod
    def all_projections(self) -> list[Projection]:
        """Every projection in the model's order."""

    @abstractmethod
    def blocks(self) -> list[Block]:
        """The transformer blocks in the model's order."""

    @abstractmethod
    def attention_layers(self) -> list[AttentionLayer]:
        """The attention layers in the model's order."""

    @property
    @abstractmethod
    def width(self) -> int:
        """The hidden width (of the widest block where blocks differ)."""

    @property
    @abstractmethod
    def positions(self) -> int | None:
        """How many positions the model offers to its input; None where attention has no such limit."""

    @abstractmethod
    def example_input(self, generator: Any = None) -> dict[str, Tensor]:
        """A small valid input of the model's forward, for checks and cost measurements."""

    def set_gradient_checkpointing(self, on: bool) -> None:
        """Whether the blocks' activations are computed again in the backward pass."""
        if on == any(getattr(module, "gradient_checkpointing", False) for module in self.model.modules()):
            return
        if self.library == "diffusers":
            self.model.enable_gradient_checkpointing() if on else self.model.disable_gradient_checkpointing()
        else:
            checkpoint_transformer(self.model, on)

    def projections(self, *roles: str) -> list[Projection]:
        """The projections that play one of `roles`; "auto" is what the base's card recommends.

        A role is a word of ROLE_GROUPS, a part ("query", "value", "output", ...) or both ("self-attention.query").
        Raises LookupError, listing the valid words, for an unknown role or one that this model lacks.
        """
        available = self.all_projections()
        wanted: set[int] = set()
        for role in _expand(roles, self.recommended_targets):
            matching = [i for i, projection in enumerate(available) if plays(projection, role)]
            if not matching:
                valid = sorted({*ROLE_GROUPS, *(p.part for p in available), *(p.role for p in available)})
                raise LookupError(f"no layer of this model plays the role '{role}'; the roles are {', '.join(valid)}")
            wanted.update(matching)
        return [available[i] for i in sorted(wanted)]


def plays(projection: Projection, role: str) -> bool:
    """Whether the projection plays `role`."""
    return role in (projection.part, projection.role) or projection.group in ROLE_GROUPS.get(role, ())


def count_roles(projections: Iterable[Projection]) -> dict[str, int]:
    """How many projections play each role: what a record says of the layers taken."""
    return dict(sorted(Counter(projection.role for projection in projections).items()))


def _expand(roles: Iterable[str], recommended: tuple[str, ...]) -> list[str]:
    return [word for role in roles for word in (recommended if role == "auto" else (role,))]


def checkpoint_transformer(model: Any, on: bool) -> None:
    """Gradient checkpointing of a model of transformers, by the name that its version has for it."""
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if on:
        getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
        model.disable_input_require_grads()  # which only reentrant checkpointing needs
    else:
        getattr(model, f"{name}_checkpointing_disable")()
