"""Training in a random subspace of all weights: the intrinsic dimension of a task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adapters.base import Adapter, HookedUpdate, MergeableAttachment, check_state
from adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapters.backbone import Backbone

RADIX = 16  # a Walsh-Hadamard transform by factors of 16 was the fastest on a CPU, of 2 to 256
LEAST_BLOCK = 4096  # rows of a Fastfood block at least: more blocks cost time
TOGETHER = 2**20  # rows that are computed at a time: temporary tensors hold as many numbers
DENSE_LIMIT = 2**31  # entries of a dense projection


@dataclass(frozen=True)
class Subspace(Adapter, name="subspace"):
    """A random subspace: theta = theta_0 + P theta_d, where only the d numbers theta_d train (Li et al. 2018, arXiv
    1804.08838; Aghajanyan et al. 2020, arXiv 2012.13255, section 3)."""

    size_field = "dimension"
    mergeable = True
    examples = ({}, {"dimension": 300, "scales": True}, {"dimension": 1}, {"dimension": 5, "projection": "dense"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"DID": {"scales": False}, "SAID": {"scales": True}}

    dimension: int = 10_000
    """How many numbers train: d."""
    scales: bool = False
    """One of the d for each tensor of the model, as its learned scale (SAID); otherwise DID."""
    projection: Literal["fastfood", "dense"] = "fastfood"
    """P: Fastfood needs 9 bytes a weight in memory; a dense Gaussian 4 d, for small models only."""

    def attach(self, backbone: Backbone) -> SubspaceAttachment:
        import torch

        tensors = _projected(backbone)
        total = sum(p.numel() for p in tensors.values())
        least = self.least_size(backbone)
        if self.dimension < least:
            raise AdapterError(f"--adapter.dimension must be at least {least} here, not {self.dimension}")
        if self.projection == "dense" and total * self.dimension > DENSE_LIMIT:
            raise AdapterError(
                f"a dense projection of {total} weights from {self.dimension} dimensions is too large; "
                "take --adapter.projection fastfood"
            )
        seed = int(torch.randint(2**62, ()))
        return SubspaceAttachment(backbone, Coordinates(backbone, self, tensors, seed), tensors)

    def parameter_count(self, backbone: Backbone) -> int:
        """d, whatever the model."""
        return self.dimension

    def least_size(self, backbone: Backbone) -> int:
        """One, and one for each tensor that has a scale."""
        return 1 + (len(_projected(backbone)) if self.scales else 0)


def _projected(backbone: Backbone) -> dict[str, nn.Parameter]:
    """The tensors of the model that the subspace spans, by name."""
    return {name: p for name, p in backbone.model.named_parameters() if p.is_floating_point()}


class Coordinates(HookedUpdate):
    """theta_d, of shape (d,), and the scales, (tensors,), on the whole model; and the projection P out of it."""

    before = True

    def __init__(self, backbone: Backbone, settings: Subspace, tensors: Mapping[str, nn.Parameter], seed: int):
        import torch
        from torch import nn

        self.kind, self.seed = settings.projection, seed
        self.shapes = {name: tensor.shape for name, tensor in tensors.items()}
        self.projections: dict[Any, Any] = {}  # by device
        self.made: Any = None  # theta_d, its version and the like, and the changes made of them
        # in the model's own format: diffusers takes a model's format from whichever parameter comes first
        weight = next(backbone.model.parameters())
        place = {"dtype": weight.dtype, "device": weight.device}
        size = settings.dimension - (len(tensors) if settings.scales else 0)
        parameters = {"theta": nn.Parameter(torch.zeros(size, **place))}
        if settings.scales:
            parameters["scales"] = nn.Parameter(torch.ones(len(tensors), **place))
        super().__init__(backbone.model, parameters)

    def update(self, args: tuple, kwargs: dict, output: Any) -> None:
        """The layers change their weights themselves; a forward that trains begins a graph of its own."""
        import torch

        if torch.is_grad_enabled():
            self.forget()

    def forget(self) -> None:
        self.made = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"made": None}  # a graph cannot be copied

    def reseed(self, seed: int) -> None:
        self.seed = seed
        self.projections.clear()
        self.forget()

    def changes(self) -> dict[str, Tensor]:
        """By tensor, its part of P theta_d, in its shape, times its scale; float32.

        They are made once for all tensors: in each forward that trains, otherwise only when theta_d has changed.
        """
        import torch

        theta = self["theta"]
        state = (*(self[name]._version for name in self.names), torch.is_grad_enabled())
        if self.made is None or self.made[0] is not theta or self.made[1] != state:
            self.made = (theta, state, self._project(theta.float()))
        return self.made[2]

    def _project(self, theta: Tensor) -> dict[str, Tensor]:
        import torch

        counts = [shape.numel() for shape in self.shapes.values()]
        if theta.device not in self.projections:
            kind = {"fastfood": Fastfood, "dense": DenseProjection}[self.kind]
            self.projections[theta.device] = kind(theta.numel(), sum(counts), self.seed, theta.device)
        with torch.autocast(theta.device.type, enabled=False):
            parts = self.projections[theta.device](theta).split(counts)
        changes = {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        if "scales" in self.names:
            scales = self["scales"].float()
            changes = {name: change * scale for (name, change), scale in zip(changes.items(), scales, strict=True)}
        return changes


class WeightUpdate(HookedUpdate):
    """Gives one module its weights of the subspace while its forward runs.

    The attribute of the instance hides the parameter of that name, which itself never changes: the base model stays
    as it is, and a block that is computed again for gradient checkpointing gets its weights again.
    """

    before = True

    def __init__(self, module: nn.Module, tensors: Mapping[str, str], coordinates: Coordinates):
        self.tensors, self.coordinates = dict(tensors), coordinates  # own name: the model's name of the tensor
        super().__init__(module, {})

    def enable(self) -> None:
        if self.handle is None:
            self.after = self.module.register_forward_hook(self.restore, always_call=True)
        super().enable()

    def disable(self) -> None:
        if self.handle is not None:
            self.after.remove()
        super().disable()

    def update(self, args: tuple, kwargs: dict, output: Any) -> None:
        for own, name in self.tensors.items():
            weight = self.module._parameters[own]
            changed = weight.float() + self.coordinates.changes()[name]
            self.module.__dict__[own] = changed.to(weight.dtype)

    def restore(self, module: nn.Module, args: tuple, output: Any) -> None:
        for own in self.tensors:
            module.__dict__.pop(own, None)


class SubspaceAttachment(MergeableAttachment[HookedUpdate]):
    """A subspace of one model's weights; the seed of P is part of its state."""

    def __init__(self, backbone: Backbone, coordinates: Coordinates, tensors: Mapping[str, nn.Parameter]):
        self.coordinates, self.tensors = coordinates, dict(tensors)
        names = {parameter: name for name, parameter in tensors.items()}  # tied tensors have one name
        updates: dict[str, HookedUpdate] = {"subspace": coordinates}
        for place, module in backbone.model.named_modules():
            inside = {own: names[p] for own, p in module.named_parameters(recurse=False) if p in names}
            if inside:
                updates[f"{place}.weights"] = WeightUpdate(module, inside, coordinates)
        facts = {"tensors": len(tensors), "projected_weights": sum(p.numel() for p in tensors.values())}
        super().__init__(backbone, updates, facts)

    def changes(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        changes = self.coordinates.changes()
        return ((weight, changes[name]) for name, weight in self.tensors.items())

    def rescale(self, factor: float) -> None:
        import torch

        with torch.no_grad():
            self.coordinates["theta"].mul_(factor)

    def state(self) -> dict[str, Tensor]:
        import torch

        return {**super().state(), "projection_seed": torch.tensor(self.coordinates.seed)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        check_state(state, self.state())
        super().load({name: tensor for name, tensor in state.items() if name != "projection_seed"})
        self.coordinates.reseed(int(state["projection_seed"]))


class Fastfood:
    """P from R^d to R^D: blocks H G Pi H B / c of L rows, one below the other, each with its own signs B, permutation
    Pi and Gaussian G; H is the Walsh-Hadamard transform of size L, the power of two from d on (Le et al. 2013, section
    4; Aghajanyan et al. 2020, section 3).

    c = sqrt(sum(G^2) D) gives each of P's columns the norm 1. Only the diagonals are in memory, never P: 9 bytes a row.
    """

    def __init__(self, inputs: int, outputs: int, seed: int, device: Any):
        import torch

        self.inputs, self.outputs = inputs, outputs
        self.size = max(LEAST_BLOCK, 1 << (inputs - 1).bit_length())
        self.together = max(1, TOGETHER // self.size)
        blocks = math.ceil(outputs / self.size)
        generator = torch.Generator().manual_seed(seed)
        signs = 2 * torch.randint(2, (blocks, inputs), generator=generator, dtype=torch.int8) - 1
        normals = torch.randn(blocks, self.size, generator=generator)
        normals *= (outputs * normals.square().sum(1, keepdim=True)).rsqrt()
        orders = torch.stack([torch.randperm(self.size, generator=generator).to(torch.int32) for _ in range(blocks)])
        orders += torch.arange(blocks, dtype=torch.int32)[:, None] % self.together * self.size  # among those together
        self.signs, self.normals, self.orders = signs.to(device), normals.to(device), orders.to(device)

    def __call__(self, vector: Tensor) -> Tensor:
        import torch

        parts = [self._blocks(vector, first) for first in range(0, len(self.signs), self.together)]
        return torch.cat(parts)[: self.outputs]

    def _blocks(self, vector: Tensor, first: int) -> Tensor:
        """The rows of the blocks from the `first` on that are computed together."""
        import torch.nn.functional as F

        blocks = slice(first, first + self.together)
        mixed = walsh_hadamard(F.pad(self.signs[blocks] * vector, (0, self.size - self.inputs)))
        ordered = mixed.view(-1).index_select(0, self.orders[blocks].reshape(-1))
        return walsh_hadamard(ordered.view(-1, self.size) * self.normals[blocks]).view(-1)


class DenseProjection:
    """A Gaussian matrix (D, d) whose columns have the norm 1 in expectation: the oracle for Fastfood."""

    def __init__(self, inputs: int, outputs: int, seed: int, device: Any):
        import torch

        generator = torch.Generator().manual_seed(seed)
        self.matrix = (torch.randn(outputs, inputs, generator=generator) / math.sqrt(outputs)).to(device)

    def __call__(self, vector: Tensor) -> Tensor:
        return self.matrix @ vector


def walsh_hadamard(rows: Tensor) -> Tensor:
    """H x, unnormalised, for each row x of (n, L), L a power of two: H is a Kronecker product of small ones."""
    import torch

    count, size = rows.shape
    result, done = rows, 1
    while done < size:
        factor = min(RADIX, size // done)
        matrix = torch.as_tensor(hadamard(factor)).to(rows)
        result = result.view(-1, factor) @ matrix if done == 1 else matrix @ result.view(-1, factor, done)
        done *= factor
    return result.view(count, size)


@cache
def hadamard(size: int) -> Any:
    """The Hadamard matrix of Sylvester, (size, size), as an array: a tensor kept from a dry run has no values."""
    from scipy.linalg import hadamard

    return hadamard(size).astype("float32")
