"""What a trained run changed in the model's weights, seen matrix by matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from experiments.config import RunConfig
from experiments.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone
    from experiments.records.folder import RunFolder
    from tasks.base import PreparedTask

DIRECTIONS = 64  # singular directions of a matrix that are looked at: the largest rank of the LoRA paper's section 7


@dataclass(frozen=True)
class Matrix:
    """One weight matrix: a whole parameter, or the part of a fused one that is a projection of its own.

    A convolution's kernel is the matrix (out, in * height * width), as in LoRA for convolutions.
    """

    key: str
    parameter: str
    transposed: bool = False
    rows: tuple[int, int] | None = None

    def of(self, weight: Tensor) -> Tensor:
        """Its entries in the parameter (contiguous), or in a change of it: a view of shape (out, in)."""
        matrix = weight.T if self.transposed else weight.view(len(weight), -1)
        return matrix if self.rows is None else matrix[self.rows[0] : self.rows[1]]


def matrices(backbone: Backbone) -> list[Matrix]:
    """Every matrix of the model in its order, the fused ones split; vectors (biases, norms) are none."""
    projections = backbone.all_projections()
    found = []
    for name, parameter in backbone.model.named_parameters():
        own = [p for p in projections if p.module.weight is parameter]
        if own:
            found += [Matrix(p.key, name, p.transposed, p.rows) for p in own]
        elif parameter.ndim > 1:
            found.append(Matrix(name.removesuffix(".weight"), name))
    return found


def update_of(config: RunConfig, folder: RunFolder, prepared: PreparedTask) -> dict[str, Tensor]:
    """By name of the parameter, what the run in `folder` added to it; only those that it changed.

    Any method serves that can be merged into the weights. The model is given back as it was.
    """
    import torch
    from safetensors.torch import load_file

    from experiments.session import attach

    if not config.adapter.mergeable:
        raise UsageError(
            f"'{config.adapter.name}' is no change of the model's weights, so it has no matrices to look at"
        )
    base = weights_of(prepared.backbone)
    attachment = attach(config, prepared)
    try:
        attachment.load(load_file(folder.adapter_file))
        attachment.merge()
        merged = weights_of(prepared.backbone)
        changes = {name: merged[name] - weight for name, weight in base.items()}
    finally:
        attachment.detach()
    return {name: change for name, change in changes.items() if torch.any(change)}


def weights_of(backbone: Backbone) -> dict[str, Tensor]:
    """Contiguous copies of the model's parameters."""
    import torch

    named = backbone.model.named_parameters()
    return {name: p.detach().clone(memory_format=torch.contiguous_format) for name, p in named}


def put(weights: Mapping[str, Tensor], backbone: Backbone) -> None:
    """Set the model's parameters of these names."""
    import torch

    parameters = dict(backbone.model.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)


class Decomposition(NamedTuple):
    """U (out, k), singular values (k,) and V^T (k, in) of one matrix's update; `base` is the untuned matrix."""

    matrix: Matrix
    left: Tensor
    values: Tensor
    right: Tensor
    base: Tensor

    def cut(self, rank: int) -> Tensor:
        """The nearest update of this rank."""
        return (self.left[:, :rank] * self.values[:rank]) @ self.right[:rank]

    def count(self, rank: int) -> int:
        """Numbers that its two factors take."""
        return min(rank, len(self.values)) * (len(self.left) + self.right.shape[1])

    def base_norms(self) -> Tensor:
        """||U_r^T W V_r||_F for r = 1 .. k: how much of the base lies in the update's directions (LoRA paper, 7.3)."""
        import torch

        inside = (self.left[:, :DIRECTIONS].T @ self.base @ self.right[:DIRECTIONS].T).square()
        return torch.stack([inside[:r, :r].sum().sqrt() for r in range(1, len(inside) + 1)])


def decompose(
    changes: Mapping[str, Tensor], base: Mapping[str, Tensor], found: Sequence[Matrix]
) -> tuple[list[Decomposition], dict[str, Tensor]]:
    """The matrices that changed, decomposed, and the changes of parameters that are no matrix."""
    import torch

    parts = []
    for matrix in found:
        if matrix.parameter in changes and torch.any(change := matrix.of(changes[matrix.parameter])):
            left, values, right = torch.linalg.svd(change.float(), full_matrices=False)
            parts.append(Decomposition(matrix, left, values, right, matrix.of(base[matrix.parameter]).float()))
    inside = {matrix.parameter for matrix in found}
    return parts, {name: change for name, change in changes.items() if name not in inside}
