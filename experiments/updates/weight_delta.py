"""The weight change of a trained run, decomposed matrix by matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from experiments.config import RunConfig
from experiments.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone
    from experiments.records.folder import RunFolder
    from tasks.base import PreparedTask

DIRECTIONS = 64  # leading singular directions to keep: the largest rank in section 7 of the LoRA paper


@dataclass(frozen=True)
class Matrix:
    """One weight matrix: a whole parameter, or one projection's rows of a fused parameter.

    A convolution kernel is the matrix (out, in * height * width), as in LoRA for convolutions.
    """

    key: str
    parameter: str
    transposed: bool = False
    rows: tuple[int, int] | None = None

    def view(self, weight: Tensor) -> Tensor:
        """The matrix inside the (contiguous) parameter or a change of it: a view of shape (out, in)."""
        matrix = weight.T if self.transposed else weight.view(len(weight), -1)
        return matrix if self.rows is None else matrix[self.rows[0] : self.rows[1]]


def weight_matrices(backbone: Backbone) -> list[Matrix]:
    """Every weight matrix of the model, in the model's order, with fused ones split; no vectors (biases, norms)."""
    projections = backbone.all_projections()
    matrices = []
    for name, parameter in backbone.model.named_parameters():
        inside = [p for p in projections if p.module.weight is parameter]
        if inside:
            matrices += [Matrix(p.key, name, p.transposed, p.rows) for p in inside]
        elif parameter.ndim > 1:
            matrices.append(Matrix(name.removesuffix(".weight"), name))
    return matrices


def weight_changes(config: RunConfig, folder: RunFolder, prepared: PreparedTask) -> dict[str, Tensor]:
    """What the run in `folder` added to each parameter that it changed, by the parameter's name.

    Works for every method that is a change of weights, and restores the model. Raises UsageError for other methods.
    """
    import torch
    from safetensors.torch import load_file

    from adapters.base import attach
    from adapters.errors import AdapterError

    if not (config.adapter.mergeable or config.adapter.may_merge):
        raise UsageError(
            f"'{config.adapter.name}' cannot be merged into the weights, so it has no weight change to decompose: "
            "choose a run of another method"
        )
    base = copy_weights(prepared.backbone)
    # the file holds what `init` began
    attachment = attach(replace(config.adapter, init=None), prepared.backbone, config.train.seed)
    try:
        attachment.load(load_file(folder.adapter_file))
        with attachment.merged():
            merged = copy_weights(prepared.backbone)
        changes = {name: merged[name] - weight for name, weight in base.items()}
    except AdapterError as unmergeable:
        raise UsageError(str(unmergeable)) from None
    finally:
        attachment.detach()
    return {name: change for name, change in changes.items() if torch.any(change)}


def copy_weights(backbone: Backbone) -> dict[str, Tensor]:
    """Contiguous copies of the model's parameters."""
    import torch

    named = backbone.model.named_parameters()
    return {name: p.detach().clone(memory_format=torch.contiguous_format) for name, p in named}


def set_weights(weights: Mapping[str, Tensor], backbone: Backbone) -> None:
    """Set the model's parameters with these names."""
    import torch

    parameters = dict(backbone.model.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)


@dataclass(frozen=True, eq=False)
class Decomposition:
    """The SVD of one matrix's update: U (out, k), singular values (k,), V^T (k, in); `base` is the untuned matrix."""

    matrix: Matrix
    left: Tensor
    values: Tensor
    right: Tensor
    base: Tensor

    def truncate(self, rank: int) -> Tensor:
        """The best approximation of the update that has this rank."""
        return (self.left[:, :rank] * self.values[:rank]) @ self.right[:rank]

    def parameter_count(self, rank: int) -> int:
        """Numbers in the two factors of the truncated update."""
        return min(rank, len(self.values)) * (len(self.left) + self.right.shape[1])

    def energy(self, rank: int | None = None) -> float:
        """The squared Frobenius norm of the update, or of its best approximation of this rank."""
        return float(self.values[:rank].square().sum())

    @cached_property
    def tuned_directions(self) -> tuple[Tensor, Tensor, Tensor]:
        """The leading DIRECTIONS of the SVD of W_0 + dW: U (out, k), singular values (k,), V^T (k, in)."""
        import torch

        left, values, right = torch.linalg.svd(self.tuned(), full_matrices=False)
        return left[:, :DIRECTIONS].clone(), values[:DIRECTIONS].clone(), right[:DIRECTIONS].clone()

    @cached_property
    def resemblance(self) -> Tensor:
        """Of each leading direction of W_0 + dW, the largest |cosine| of its left singular vector with one of W_0's.

        An intruder dimension resembles none (Shuttleworth et al. 2024, arXiv 2410.21228).
        """
        import torch

        tuned, _, _ = self.tuned_directions
        return (tuned.T @ torch.linalg.svd(self.base, full_matrices=False).U).abs().amax(1)

    def tuned(self) -> Tensor:
        """W_0 + dW, of shape (out, in)."""
        return self.base + self.truncate(len(self.values))

    def base_norms(self) -> Tensor:
        """||U_r^T W V_r||_F for r = 1 .. k: the base's norm in the update's directions (LoRA paper, section 7.3)."""
        import torch

        inside = (self.left[:, :DIRECTIONS].T @ self.base @ self.right[:DIRECTIONS].T).square()
        return torch.stack([inside[:r, :r].sum().sqrt() for r in range(1, len(inside) + 1)])


def decompose(
    changes: Mapping[str, Tensor], base: Mapping[str, Tensor], matrices: Sequence[Matrix]
) -> tuple[list[Decomposition], dict[str, Tensor]]:
    """Decompose every matrix that changed; also returns the other changed parameters (biases, norms)."""
    import torch

    parts = []
    for matrix in matrices:
        if matrix.parameter in changes and torch.any(change := matrix.view(changes[matrix.parameter])):
            left, values, right = torch.linalg.svd(change.float(), full_matrices=False)
            parts.append(Decomposition(matrix, left, values, right, matrix.view(base[matrix.parameter]).float()))
    inside = {matrix.parameter for matrix in matrices}
    return parts, {name: change for name, change in changes.items() if name not in inside}
