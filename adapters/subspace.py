"""Training in a random subspace of all weights: the intrinsic dimension of a task."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adapters.base import Adapter, AdapterError, HookedUpdate, MergeableAttachment, check_state

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapters.backbone import Backbone

RADIX = 16  # a Walsh-Hadamard transform by factors of 16 was the fastest on a CPU, of 2 to 256
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
    """theta_d, of shape (d,), and the scales, (tensors,), on the whole model; and the projections out of it."""

    before = True

    def __init__(self, backbone: Backbone, settings: Subspace, tensors: Mapping[str, nn.Parameter], seed: int):
        import torch
        from torch import nn

        self.kind, self.seed = settings.projection, seed
        self.places = {name: index for index, name in enumerate(tensors)}
        self.total = sum(tensor.numel() for tensor in tensors.values())
        self.projections: dict[tuple, Any] = {}  # by tensor and device
        # in the model's own format: diffusers takes a model's format from whichever parameter comes first
        weight = next(backbone.model.parameters())
        place = {"dtype": weight.dtype, "device": weight.device}
        size = settings.dimension - (len(tensors) if settings.scales else 0)
        parameters = {"theta": nn.Parameter(torch.zeros(size, **place))}
        if settings.scales:
            parameters["scales"] = nn.Parameter(torch.ones(len(tensors), **place))
        super().__init__(backbone.model, parameters)

    def update(self, args: tuple, kwargs: dict, output: Any) -> None:
        """The layers change their weights themselves."""

    def reseed(self, seed: int) -> None:
        self.seed = seed
        self.projections.clear()

    def change(self, name: str, weight: Tensor) -> Tensor:
        """The tensor's part of P theta_d, in its shape, times its scale; float32.

        Every weight of the model has the same share in it, as in a projection of the whole model: P's columns have
        norm 1 over all tensors together (Li et al. 2018, section 2), not over each, however small.
        """
        import torch

        theta = self["theta"].float()
        place = (name, theta.device)
        if place not in self.projections:
            kind = {"fastfood": Fastfood, "dense": DenseProjection}[self.kind]
            norm = math.sqrt(weight.numel() / self.total)
            self.projections[place] = kind(theta.numel(), weight.numel(), seed_of(self.seed, name), theta.device, norm)
        with torch.autocast(theta.device.type, enabled=False):
            change = self.projections[place](theta).view(weight.shape)
        return change * self["scales"][self.places[name]].float() if "scales" in self.names else change


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
            changed = weight.float() + self.coordinates.change(name, weight)
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
        return ((weight, self.coordinates.change(name, weight)) for name, weight in self.tensors.items())

    def rescale(self, factor: float) -> None:
        import torch

        with torch.no_grad():
            self.coordinates["theta"].mul_(factor)

    def state(self) -> dict[str, Tensor]:
        import torch

        return {**super().state(), "seed": torch.tensor(self.coordinates.seed)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        check_state(state, self.state())
        super().load({name: tensor for name, tensor in state.items() if name != "seed"})
        self.coordinates.reseed(int(state["seed"]))


class Fastfood:
    """P x = H G Pi H B x / c, from R^d to R^D: signs B, permutation Pi, Gaussian G, Walsh-Hadamard transform H of size
    L, the power of two from D on (Le et al. 2013; Aghajanyan et al. 2020, section 3).

    c = sqrt(L sum(G^2)) sqrt(D / L) / `norm` gives P x the expected norm `norm` |x|. Where d exceeds L, x is folded:
    its pieces of length L are added with their signs. Only the diagonals are in memory, never P.
    """

    def __init__(self, inputs: int, outputs: int, seed: int, device: Any, norm: float = 1.0):
        import torch

        self.inputs, self.outputs = inputs, outputs
        self.size = 1 << max(outputs - 1, 0).bit_length()
        generator = torch.Generator().manual_seed(seed)
        padded = self.size * math.ceil(inputs / self.size)
        signs = 2 * torch.randint(2, (min(padded, inputs),), generator=generator, dtype=torch.int8) - 1
        normals = torch.randn(self.size, generator=generator)
        normals *= norm / (self.outputs * normals.square().sum()).sqrt()
        self.signs, self.normals = signs.to(device), normals.to(device)
        self.order = torch.randperm(self.size, generator=generator).to(torch.int32).to(device)

    def __call__(self, vector: Tensor) -> Tensor:
        import torch.nn.functional as F

        missing = -self.inputs % self.size
        folded = F.pad(self.signs * vector, (0, missing)).view(-1, self.size).sum(0)
        mixed = walsh_hadamard(folded).index_select(0, self.order) * self.normals
        return walsh_hadamard(mixed)[: self.outputs]


class DenseProjection:
    """A Gaussian matrix (D, d) whose columns have the norm `norm` in expectation: the oracle for Fastfood."""

    def __init__(self, inputs: int, outputs: int, seed: int, device: Any, norm: float = 1.0):
        import torch

        generator = torch.Generator().manual_seed(seed)
        self.matrix = (torch.randn(outputs, inputs, generator=generator) * norm / math.sqrt(outputs)).to(device)

    def __call__(self, vector: Tensor) -> Tensor:
        return self.matrix @ vector


def walsh_hadamard(vector: Tensor) -> Tensor:
    """H x, unnormalised, for x of shape (L,), L a power of two: H is a Kronecker product of small ones."""
    import torch

    size, done = vector.numel(), 1
    while done < size:
        factor = min(RADIX, size // done)
        matrix = torch.as_tensor(hadamard(factor)).to(vector)
        vector = vector.view(-1, factor) @ matrix if done == 1 else torch.matmul(matrix, vector.view(-1, factor, done))
        done *= factor
    return vector.reshape(size)


@cache
def hadamard(size: int) -> Any:
    """The Hadamard matrix of Sylvester, (size, size), as an array: a tensor kept from a dry run has no values."""
    from scipy.linalg import hadamard

    return hadamard(size).astype("float32")


def seed_of(seed: int, name: str) -> int:
    """A seed of its own for each tensor, from the run's."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8]) >> 1
