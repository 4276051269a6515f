"""Training in a random subspace of all weights: the intrinsic dimension of a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adapters.backbone import without_autocast
from adapters.base import Adapter, check_state
from adapters.bounds import LARGEST_COUNT, bounded
from adapters.errors import AdapterError
from adapters.hooks import HookedUpdate, MergeableAttachment, trained_like
from adapters.random_projections import DenseProjection, Fastfood

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapters.backbone import Backbone

DENSE_LIMIT = 2**31  # entries of a dense projection


@dataclass(frozen=True)
class Subspace(Adapter, name="subspace"):
    """Training in a random subspace: theta = theta_0 + P theta_d, where only the d numbers theta_d train (Li et al.
    2018, arXiv 1804.08838; Aghajanyan et al. 2020, arXiv 2012.13255, section 3)."""

    size_field = "dimension"
    size_counts_parameters = True
    rate_exponent = 0.5  # a step of Adam moves d numbers by the rate each, so the weights move equally far at every d
    formats = ()
    mergeable = True
    other_names = ("intrinsic", "intrinsic-dimension", "random-subspace", "did", "said", "fastfood")
    examples = ({}, {"dimension": 400, "scales": True}, {"dimension": 1}, {"dimension": 5, "projection": "dense"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"DID": {"scales": False}, "SAID": {"scales": True}}

    dimension: int = bounded(10_000, at_least=1, at_most=LARGEST_COUNT)
    """d, the number of trained numbers."""
    scales: bool = False
    """Use one of the d numbers per tensor of the model as that tensor's learned scale (SAID). Default: none (DID)."""
    projection: Literal["fastfood", "dense"] = "fastfood"
    """P: Fastfood takes 9 bytes of memory per weight; a dense Gaussian 4 d bytes, for small models only."""

    def attach(self, backbone: Backbone) -> SubspaceAttachment:
        import torch

        tensors = _projected(backbone)
        total = sum(p.numel() for p in tensors.values())
        least = self.least_size(backbone)
        if self.dimension < least:
            raise AdapterError(f"--adapter.dimension must be at least {least} on this model, not {self.dimension}")
        if self.projection == "dense" and total * self.dimension > DENSE_LIMIT:
            raise AdapterError(
                f"a dense projection from {self.dimension} dimensions to {total} weights is too large: "
                "use --adapter.projection fastfood"
            )
        seed = int(torch.randint(2**62, ()))
        return SubspaceAttachment(backbone, Coordinates(backbone, self, tensors, seed), tensors)

    def parameter_count(self, backbone: Backbone) -> int:
        """d, whatever the model."""
        return self.dimension

    def least_size(self, backbone: Backbone) -> int:
        """One, plus one for each tensor that has a scale."""
        return 1 + (len(_projected(backbone)) if self.scales else 0)


def _projected(backbone: Backbone) -> dict[str, nn.Parameter]:
    """The model's tensors that the subspace changes, by name."""
    return {name: p for name, p in backbone.model.named_parameters() if p.is_floating_point()}


class Coordinates(HookedUpdate):
    """theta_d of shape (d,) and the scales of shape (tensors,), on the whole model, and their projection P."""

    before = True

    def __init__(self, backbone: Backbone, settings: Subspace, tensors: Mapping[str, nn.Parameter], seed: int):
        import torch
        from torch import nn

        self.kind, self.seed = settings.projection, seed
        self.shapes = {name: tensor.shape for name, tensor in tensors.items()}
        self.projections: dict[Any, Any] = {}  # by device
        self.cached: Any = None  # theta_d, its version, and the changes computed from it
        like = trained_like(backbone.model)
        size = settings.dimension - (len(tensors) if settings.scales else 0)
        parameters = {"theta": nn.Parameter(torch.zeros(size, **like))}
        if settings.scales:
            parameters["scales"] = nn.Parameter(torch.ones(len(tensors), **like))
        super().__init__(backbone.model, parameters)

    def update(self, args: tuple, kwargs: dict, output: Any) -> None:
        """Start a new graph in each forward that trains; the layers change their weights themselves."""
        import torch

        if torch.is_grad_enabled():
            self.forget()

    def forget(self) -> None:
        """Drop the cached changes."""
        self.cached = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"cached": None}  # a graph cannot be copied

    def reseed(self, seed: int) -> None:
        self.seed = seed
        self.projections.clear()
        self.forget()

    def changes(self) -> dict[str, Tensor]:
        """For each tensor its part of P theta_d, in its shape, times its scale; float32.

        Computed for all tensors at once: in each forward that trains, otherwise only after theta_d has changed.
        """
        import torch

        theta = self["theta"]
        state = (*(self[name]._version for name in self.names), torch.is_grad_enabled())
        if self.cached is None or self.cached[0] is not theta or self.cached[1] != state:
            self.cached = (theta, state, self._project(theta.float()))
        return self.cached[2]

    def _project(self, theta: Tensor) -> dict[str, Tensor]:
        counts = [shape.numel() for shape in self.shapes.values()]
        if theta.device not in self.projections:
            kind = {"fastfood": Fastfood, "dense": DenseProjection}[self.kind]
            self.projections[theta.device] = kind(theta.numel(), sum(counts), self.seed, theta.device)
        with without_autocast(theta.device):
            parts = self.projections[theta.device](theta).split(counts)
        changes = {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        if "scales" in self.names:
            scales = self["scales"].float()
            changes = {name: change * scale for (name, change), scale in zip(changes.items(), scales, strict=True)}
        return changes


class WeightUpdate(HookedUpdate):
    """Replaces one module's weights by those in the subspace while its forward runs.

    An instance attribute hides the parameter of the same name. The parameter itself never changes, so the base model
    stays intact, and a block that gradient checkpointing recomputes gets its weights again.
    """

    before = True

    def __init__(self, module: nn.Module, tensors: Mapping[str, str], coordinates: Coordinates):
        self.tensors, self.coordinates = dict(tensors), coordinates  # the module's name of a tensor: the model's
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
    """A random subspace of one model's weights; the seed of P is part of the state."""

    def __init__(self, backbone: Backbone, coordinates: Coordinates, tensors: Mapping[str, nn.Parameter]):
        self.coordinates, self.tensors = coordinates, dict(tensors)
        names = {parameter: name for name, parameter in tensors.items()}  # tied tensors share a name
        updates: dict[str, HookedUpdate] = {"subspace": coordinates}
        for module_name, module in backbone.model.named_modules():
            inside = {own: names[p] for own, p in module.named_parameters(recurse=False) if p in names}
            if inside:
                updates[f"{module_name}.weights"] = WeightUpdate(module, inside, coordinates)
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
