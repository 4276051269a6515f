"""`Backbone`: a model as adapters see it. It hides module names and the ways in which models store their weights."""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Compute = Literal["no", "bf16", "fp16"]  # autocast dtype of a model's forward pass
Module = Any  # a torch.nn.Module whose attributes (weight, config, heads, ...) a type checker cannot know

ATTENTION_PARTS = ("query", "key", "value", "output")

# A role is "group.part". Targets are roles, groups, parts, or these words for one or several groups.
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

# names that many libraries give to the layers of an attention: q_proj, to_q, wq, query_proj, out_proj, o_proj, ...
LAYER_NAME = re.compile(r"(to_|w_?|fc_)?(?P<part>q|k|v|o|query|key|value|out|output)(_proj|_lin|_proj\.0|\.0)?")
PART_BY_LETTER = dict(zip("qkvo", ATTENTION_PARTS, strict=True))


@dataclass(frozen=True)
class Projection:
    """One weight matrix (or convolution kernel) and its role.

    A fused matrix (GPT-2's `c_attn`) is one module with several projections: `rows` is the projection's slice of the
    module's output features, or None for all of them. A `transposed` weight is stored as (in, out), as in GPT-2's
    Conv1D.
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
        """A unique name: the module's, with the part if the module is fused."""
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
    """One attention layer. Its keys and values have shape (batch, heads, positions, head_width).

    `index` is the layer's number in a language model's key-value cache.
    """

    name: str
    module: Module
    kind: str  # "self-attention" or "cross-attention"
    heads: int  # key-value heads
    head_width: int
    index: int


class Backbone(ABC):
    """A pretrained model in the terms of the adapters' papers."""

    model: Module
    library: str  # "transformers" or "diffusers": the library that exported adapters are for
    recommended_targets: tuple[str, ...] = ("attention",)  # the targets "auto", from the base's card
    unread: tuple[
        str, ...
    ] = ()  # layers that the model lacks because nothing reads their output; files may update them
    compute: Compute = "no"  # in which tasks call the model, to measure it and to sample from it

    @abstractmethod
    def all_projections(self) -> list[Projection]:
        """All projections in the model's order."""

    @abstractmethod
    def blocks(self) -> list[Block]:
        """The transformer blocks in the model's order."""

    @abstractmethod
    def attention_layers(self) -> list[AttentionLayer]:
        """The attention layers in the model's order."""

    @property
    @abstractmethod
    def width(self) -> int:
        """The hidden width (of the widest block if blocks differ)."""

    @property
    @abstractmethod
    def positions(self) -> int | None:
        """The maximum number of input positions; None if there is no limit."""

    @abstractmethod
    def example_input(self, generator: Any = None) -> dict[str, Tensor]:
        """A small valid input for the model's forward, for checks and cost measurements."""

    @contextmanager
    def computing(self) -> Iterator[None]:
        """A context in which the model is called in `compute`, and on CUDA products of fp32 numbers are in TF32."""
        import torch

        kind, before = next(self.model.parameters()).device.type, torch.get_float32_matmul_precision()
        if kind not in ("cpu", "cuda") or (kind == "cpu" and self.compute == "no"):
            yield
            return
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.compute)
        torch.set_float32_matmul_precision("high" if kind == "cuda" else before)
        try:
            with torch.autocast(kind, dtype, enabled=dtype is not None):
                yield
        finally:
            torch.set_float32_matmul_precision(before)

    def set_gradient_checkpointing(self, on: bool) -> None:
        """Recompute the blocks' activations in the backward pass, or store them."""
        if on == any(getattr(module, "gradient_checkpointing", False) for module in self.model.modules()):
            return
        if self.library == "diffusers":
            self.model.enable_gradient_checkpointing() if on else self.model.disable_gradient_checkpointing()
        else:
            checkpoint_transformer(self.model, on)

    def projections(self, *roles: str) -> list[Projection]:
        """The projections with one of the `roles`, in the model's order; "auto" means `recommended_targets`.

        A role is a word of ROLE_GROUPS, a part ("query", "value", "output", ...), both ("self-attention.query"), or the
        key of a single projection. Raises LookupError for a role that the model does not have; the message suggests
        valid ones.
        """
        available = self.all_projections()
        chosen: set[int] = set()
        for role in _expand(roles, self.recommended_targets):
            matching = [i for i, projection in enumerate(available) if plays(projection, role)]
            if not matching:
                raise LookupError(unknown_role(role, available))
            chosen.update(matching)
        return [available[i] for i in sorted(chosen)]

    def in_order_of_use(self, projections: Sequence[Projection]) -> list[Projection]:
        """The projections, given in the model's order, in the order in which a forward pass uses them."""
        return list(projections)


def unknown_role(role: str, available: Sequence[Projection]) -> str:
    """The sentence for a role that no projection has: the right role for a layer's name, else all of them."""
    parts = _names(p for p in available if f".{p.name}".endswith(f".{role}"))
    common = LAYER_NAME.fullmatch(role.lower())
    if not parts and common is not None and role.lower() not in ATTENTION_PARTS:
        parts = [PART_BY_LETTER[common["part"][0]]]
    if parts:
        return f"'{role}' is the name of a layer: use its role{'s' if len(parts) > 1 else ''}, {', '.join(parts)}"
    groups = [group for group in ROLE_GROUPS if any(plays(projection, group) for projection in available)]
    roles = [*groups, *(name for name in _names(available) if name not in groups)]
    similar = difflib.get_close_matches(role.lower(), roles, n=1)
    meant = f" (did you mean {similar[0]}?)" if similar else ""
    return f"this model has no layer with the role '{role}'{meant}; the roles are {', '.join(roles)}"


def _names(projections: Iterable[Projection]) -> list[str]:
    """Each projection's part in an attention, else its full role; without repetitions."""
    return list(dict.fromkeys(p.part if p.part in ATTENTION_PARTS else p.role for p in projections))


def plays(projection: Projection, role: str) -> bool:
    """Whether `role` names the projection, its part or its group."""
    return role in (projection.part, projection.role, projection.key) or projection.group in ROLE_GROUPS.get(role, ())


def count_roles(projections: Iterable[Projection]) -> dict[str, int]:
    """Number of projections by role, for the record."""
    return dict(sorted(Counter(projection.role for projection in projections).items()))


def _expand(roles: Iterable[str], recommended: tuple[str, ...]) -> list[str]:
    return [word for role in roles for word in (recommended if role == "auto" else (role,))]


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A context that computes in the tensors' own dtypes."""
    import torch

    if not torch.amp.is_autocast_available(device.type):  # the meta device
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def checkpoint_transformer(model: Any, on: bool) -> None:
    """Switch a transformers model's gradient checkpointing, by the name that the installed version has for it."""
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if on:
        getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
        model.disable_input_require_grads()  # only reentrant checkpointing needs these
    else:
        getattr(model, f"{name}_checkpointing_disable")()
