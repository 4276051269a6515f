"""A random update of known rank with equal singular values, added to the weights of a copy of the base: the teacher.

In every layer the inputs along the k directions of the update are equally strong, uncorrelated and 0 in the mean: LoRA
of rank r < k then recovers about r / k of the effect. Directions drawn without regard to the inputs would not do: the
inputs of a layer have a large mean, on which an update of any rank acts as one of rank 1.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters.backbone import Backbone, Projection, count_roles
from tasks.errors import TaskError

CANDIDATES = 4  # random input directions per direction of the update, from whose span it is taken


@dataclass(frozen=True)
class PlantedUpdate:
    """`rank` equal singular values in every layer of `targets`, drawn from `seed`.

    `strength` is the Frobenius norm of a layer's update as a share of its weight's.
    """

    rank: int
    strength: float
    targets: tuple[str, ...]
    seed: int

    def facts(self, backbone: Backbone) -> dict[str, Any]:
        """For the record."""
        return {"planted": asdict(self) | {"layers": count_roles(self.layers(backbone))}}

    def layers(self, backbone: Backbone) -> list[Projection]:
        """The layers that change. Raises TaskError for an unknown role, or a layer without that many dimensions."""
        try:
            layers = backbone.projections(*self.targets)
        except LookupError as unknown:
            raise TaskError(f"--task.targets: {unknown.args[0]}") from None
        most, name = min((min(layer.out_features, (_inputs(layer) - 1) // 2), layer.key) for layer in layers)
        if self.rank > most:
            raise TaskError(
                f"--task.rank {self.rank} is too large for '{name}', which takes at most {most}: choose a smaller "
                "rank, or other --task.targets"
            )
        return layers

    def teacher(self, backbone: Backbone, forward: Callable[[], object] | None) -> Teacher:
        """A frozen copy of the backbone's model with the update in its weights.

        The backbone's own dropout is switched off: the teacher has none, and a student could not reach it. `forward`
        runs the backbone's model on inputs of the task; None for a model without values. Raises TaskError.
        """
        layers = self.layers(backbone)
        for module in backbone.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        planted = copy.copy(backbone)
        planted.model = copy.deepcopy(backbone.model).requires_grad_(False).eval()
        teacher = Teacher(planted.model, [layer.module.weight for layer in self.layers(planted)])
        if forward is not None:
            generator = torch.Generator().manual_seed(self.seed)
            candidates = {layer.key: self._candidates(layer, generator) for layer in layers}
            moments = input_moments(layers, candidates, forward)
            for layer in self.layers(planted):
                directions = candidates[layer.key] @ balanced(moments[layer.key], self.rank)
                self._add(layer, directions, _orthonormal(layer.out_features, self.rank, generator))
        return teacher

    def _candidates(self, layer: Projection, generator: torch.Generator) -> Tensor:
        size = _inputs(layer)
        return _orthonormal(size, min(size, CANDIDATES * self.rank), generator)

    @torch.no_grad()
    def _add(self, layer: Projection, inputs: Tensor, outputs: Tensor) -> None:
        """Add the update with these orthonormal directions, (in, rank) and (out, rank), to the layer's weight."""
        rows = weight_rows(layer)
        value = self.strength * float(rows.float().norm()) / math.sqrt(self.rank)  # the singular value that all share
        update = (value * outputs @ inputs.T).to(rows.device)
        rows.copy_(rows.float() + update.view_as(rows))


class Teacher(nn.Module):
    """The `model` with the update, and the `untuned` one, which shares all weights with it but those that `change`."""

    def __init__(self, model: nn.Module, change: Sequence[nn.Parameter]):
        super().__init__()
        changed = set(map(id, change))
        shared = {id(each): each for each in (*model.parameters(), *model.buffers()) if id(each) not in changed}
        self.model, self.untuned = model, copy.deepcopy(model, shared)


@torch.no_grad()
def input_moments(
    layers: list[Projection], directions: Mapping[str, Tensor], forward: Callable[[], object]
) -> dict[str, Tensor]:
    """Second moments of each layer's inputs along its `directions` (in, m), by the layer's key.

    (m + 1, m + 1): the last row and column belong to a constant input of 1, and so hold the sums.
    """
    moments = {key: torch.zeros(each.shape[1] + 1, each.shape[1] + 1).double() for key, each in directions.items()}

    @contextlib.contextmanager
    def hooked(layer: Projection) -> Iterator[None]:
        def add(module: nn.Module, args: tuple) -> None:
            along = input_rows(layer, args[0]).float() @ directions[layer.key].to(args[0].device)
            along = F.pad(along, (0, 1), value=1)
            moments[layer.key] += (along.T @ along).double().cpu()

        handle = layer.module.register_forward_pre_hook(add)
        try:
            yield
        finally:
            handle.remove()

    with contextlib.ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(hooked(layer))
        forward()
    return moments


def balanced(moments: Tensor, rank: int) -> Tensor:
    """Orthonormal combinations (m, rank) of m > 2 rank directions, along which the inputs with these `moments`
    (m + 1, m + 1), of `input_moments`, are equally strong, uncorrelated and 0 in the mean.

    Each mixes one eigenvector above the median with one below it, so that all have the strength of the median; the
    pairs are those closest to it.
    """
    sums, moments = moments[:-1, -1:], moments[:-1, :-1]
    # (m, m - 1): the directions orthogonal to the sums, along which the mean is 0
    centred = torch.linalg.qr(torch.cat([sums, torch.eye(len(sums)).double()], dim=1)).Q[:, 1:]
    strengths, vectors = torch.linalg.eigh(centred.T @ moments @ centred)
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    vectors = vectors * largest.sign()  # eigenvectors have no sign of their own
    count = len(strengths)
    below, above = torch.arange(count // 2)[-rank:].flip(0), torch.arange((count + 1) // 2, count)[:rank]
    median = (strengths[below[0]] + strengths[above[0]]) / 2
    low, high = strengths[below], strengths[above]
    share = torch.where(high > low, (median - low) / (high - low).clamp(min=torch.finfo(high.dtype).tiny), 0.5)
    return (centred @ (share.sqrt() * vectors[:, above] + (1 - share).sqrt() * vectors[:, below])).float()


def input_rows(layer: Projection, inputs: Tensor) -> Tensor:
    """What a layer's weight, as a matrix, multiplies: (n, in), or (n, in * kernel) for a convolution."""
    module = layer.module
    if module.weight.ndim == 4:
        patches = F.unfold(inputs, module.kernel_size, module.dilation, module.padding, module.stride)
        return patches.transpose(1, 2).flatten(0, 1)
    return inputs.flatten(0, -2)


def weight_rows(layer: Projection) -> Tensor:
    """A view of the projection's weight as (out, in, ...); of a fused module, its rows."""
    weight = layer.module.weight.T if layer.transposed else layer.module.weight
    return weight if layer.rows is None else weight[slice(*layer.rows)]


def _orthonormal(size: int, columns: int, generator: torch.Generator) -> Tensor:
    """Random orthonormal columns (size, columns)."""
    return torch.linalg.qr(torch.randn(size, columns, generator=generator)).Q


def _inputs(layer: Projection) -> int:
    """Input features, times the kernel's area."""
    return layer.in_features * math.prod(layer.module.weight.shape[2:])
