"""A random update of known rank with equal singular values, added to the weights of a copy of the base: the teacher.

In each layer the k directions of the update matter equally: along its k input directions the layer's inputs have the
same variance, no correlation and no mean, and along its k output directions the model's output is equally sensitive,
independently of one another. A part of rank r < k of a layer's update then has r / k of its effect, as far as its
inputs and the model's sensitivity to its outputs are independent (Martens & Grosse 2015). Directions drawn without
regard to the model would not do: the inputs of a layer have a large mean, on which an update of any rank acts as one of
rank 1, and outputs are far more sensitive in some directions than in others.
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

from adapters.backbone import Backbone, Projection
from tasks.errors import TaskError

CANDIDATES = 1024  # at most so many random directions, from whose span the update's are taken
OUTLIERS = 8  # of the strongest directions are left out for each of the update's: few tokens or places make them strong
NEGLIGIBLE = 1e-9  # strength of a direction, as a share of the strongest one's, that counts as none


@dataclass(frozen=True)
class PlantedUpdate:
    """`rank` equal singular values in each of the last `layer_count` layers of `targets`, drawn from `seed`.

    `strength` is the Frobenius norm of a layer's update as a share of its weight's.
    """

    rank: int
    strength: float
    targets: tuple[str, ...]
    layer_count: int
    seed: int

    def facts(self, backbone: Backbone) -> dict[str, Any]:
        """For the record."""
        return {"planted": asdict(self) | {"layers": [layer.key for layer in self.layers(backbone)]}}

    def layers(self, backbone: Backbone) -> list[Projection]:
        """The layers that change. Raises TaskError for an unknown role, and for too few or too small layers."""
        try:
            available = backbone.projections(*self.targets)
        except LookupError as unknown:
            raise TaskError(f"--task.targets: {unknown.args[0]}") from None
        if self.layer_count > len(available):
            raise TaskError(
                f"--task.layers {self.layer_count}: only {len(available)} layers have a role of --task.targets "
                f"{' '.join(self.targets)}; choose fewer layers or more targets"
            )
        layers = backbone.in_order_of_use(available)[-self.layer_count :]
        most, name = min((min(layer.out_features, _inputs(layer) - 1) // 2, layer.key) for layer in layers)
        if self.rank > most:
            raise TaskError(
                f"--task.rank {self.rank} is too large for '{name}', which takes at most {most}: choose a smaller "
                "rank, or other --task.targets"
            )
        return layers

    def prepare(self, backbone: Backbone) -> None:
        """Make the student comparable with the teacher: "auto" are the teacher's layers, and there is no dropout.

        The teacher has none, and a student with dropout could not reach it.
        """
        backbone.recommended_targets = tuple(layer.key for layer in self.layers(backbone))
        for module in backbone.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def teacher(self, backbone: Backbone, probe: Callable[[], object] | None) -> Teacher:
        """A frozen copy of the backbone's model with the update in its weights.

        `probe` runs the backbone's model on inputs of the task and propagates random gradients back whose second
        moments are those of the model's sensitivity (Fisher information); None for a model without values. Raises
        TaskError.
        """
        layers = self.layers(backbone)
        planted = copy.copy(backbone)
        planted.model = copy.deepcopy(backbone.model).requires_grad_(False).eval()
        teacher = Teacher(planted.model, [layer.module.weight for layer in self.layers(planted)])
        if probe is not None:
            generator = torch.Generator().manual_seed(self.seed)
            candidates = {
                layer.key: (_candidates(_inputs(layer), generator), _candidates(layer.out_features, generator))
                for layer in layers
            }
            with _frozen(backbone.model):
                measured = moments_of(layers, candidates, probe)
            for layer in self.layers(planted):
                (inputs, outputs), of = candidates[layer.key], measured[layer.key]
                try:
                    inputs = inputs @ balanced(of.inputs, self.rank, of.sums)
                    outputs = outputs @ balanced(of.gradients, self.rank)
                except ValueError as too_few:
                    raise TaskError(
                        f"--task.rank {self.rank} is too large for '{layer.key}', whose inputs, or what its outputs "
                        f"change, have {too_few}: choose a smaller rank, or other --task.targets"
                    ) from None
                rotation = _orthonormal(self.rank, self.rank, generator)  # which input meets which output
                self._add(layer, inputs, outputs @ rotation)
        return teacher

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


@dataclass
class Moments:
    """Second moments (m, m) and sums (m,) of a layer's inputs along m candidate directions, and second moments (n, n)
    of the gradients of its outputs along n."""

    inputs: Tensor
    sums: Tensor
    gradients: Tensor


def moments_of(
    layers: list[Projection], candidates: Mapping[str, tuple[Tensor, Tensor]], probe: Callable[[], object]
) -> dict[str, Moments]:
    """Moments along the `candidates` (in, m) and (out, n) while `probe` runs the model, by the layer's key."""
    measured = {}
    with contextlib.ExitStack() as hooks:
        for layer in layers:
            inputs, outputs = candidates[layer.key]
            m, n = inputs.shape[1], outputs.shape[1]
            measured[layer.key] = Moments(
                torch.zeros(m, m).double(), torch.zeros(m).double(), torch.zeros(n, n).double()
            )
            hooks.enter_context(_measuring(layer, inputs, outputs, measured[layer.key]))
        hooks.enter_context(torch.enable_grad())
        probe()
    return measured


@contextlib.contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No weight of the model gets a gradient."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def _measuring(layer: Projection, inputs: Tensor, outputs: Tensor, measured: Moments) -> Iterator[None]:
    """Add to `measured` in every forward and backward pass of the layer."""

    def add_inputs(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        along = _along(input_rows(layer, args[0].detach()), inputs)
        measured.inputs += along.T @ along
        measured.sums += along.sum(dim=0)
        marker = torch.zeros_like(output, requires_grad=True)  # its gradient is that of the output
        marker.register_hook(add_gradients)
        return output + marker

    def add_gradients(gradient: Tensor) -> None:
        along = _along(output_rows(layer, gradient), outputs)
        measured.gradients += along.T @ along

    handle = layer.module.register_forward_hook(add_inputs)
    try:
        yield
    finally:
        handle.remove()


def _along(rows: Tensor, directions: Tensor) -> Tensor:
    """Components of the rows (n, size) along directions (size, m), in double precision on the CPU."""
    return (rows.float() @ directions.to(rows.device)).double().cpu()


def balanced(moments: Tensor, rank: int, sums: Tensor | None = None) -> Tensor:
    """Orthonormal combinations (m, rank) of m directions, along which what has these second moments (m, m) is equally
    strong and uncorrelated; with `sums` (m,), also 0 in the mean.

    Of the eigenvectors in order of strength, outliers are left out; each of the next `rank` is mixed with one of the
    `rank` after them, so that all are as strong as the weakest of the former. Raises ValueError, with the number of
    directions that have any strength, for fewer than 2 `rank`.
    """
    basis = torch.eye(len(moments)).double()
    if sums is not None:
        basis = torch.linalg.qr(torch.cat([sums[:, None], basis], dim=1)).Q[:, 1:]  # orthogonal to the sums: no mean
    strengths, vectors = torch.linalg.eigh(basis.T @ moments @ basis)
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    vectors = (vectors * largest.sign()).flip(1)  # the strongest first; eigenvectors have no sign of their own
    strengths = strengths.flip(0)
    count = int((strengths > NEGLIGIBLE * strengths[0]).sum())
    if count < 2 * rank:
        raise ValueError(f"{count} directions")
    start = min(OUTLIERS * rank, count - 2 * rank)
    above, below = slice(start, start + rank), slice(start + rank, start + 2 * rank)
    high, low = strengths[above], strengths[below]
    share = torch.where(high > low, (high[-1] - low) / (high - low).clamp(min=torch.finfo(high.dtype).tiny), 1.0)
    return (basis @ (share.sqrt() * vectors[:, above] + (1 - share).clamp(min=0).sqrt() * vectors[:, below])).float()


def input_rows(layer: Projection, inputs: Tensor) -> Tensor:
    """What a layer's weight, as a matrix, multiplies: (n, in), or (n, in * kernel) for a convolution."""
    module = layer.module
    if module.weight.ndim == 4:
        patches = F.unfold(inputs, module.kernel_size, module.dilation, module.padding, module.stride)
        return patches.transpose(1, 2).flatten(0, 1)
    return inputs.flatten(0, -2)


def output_rows(layer: Projection, outputs: Tensor) -> Tensor:
    """A layer's outputs as (n, out): channels last, and of a fused module its own."""
    rows = (outputs.flatten(2).transpose(1, 2) if layer.module.weight.ndim == 4 else outputs).flatten(0, -2)
    return rows if layer.rows is None else rows[:, slice(*layer.rows)]


def weight_rows(layer: Projection) -> Tensor:
    """A view of the projection's weight as (out, in, ...); of a fused module, its rows."""
    weight = layer.module.weight.T if layer.transposed else layer.module.weight
    return weight if layer.rows is None else weight[slice(*layer.rows)]


def _orthonormal(size: int, columns: int, generator: torch.Generator) -> Tensor:
    """Random orthonormal columns (size, columns)."""
    return torch.linalg.qr(torch.randn(size, columns, generator=generator)).Q


def _candidates(size: int, generator: torch.Generator) -> Tensor:
    return _orthonormal(size, min(size, CANDIDATES), generator)


def _inputs(layer: Projection) -> int:
    """Input features, times the kernel's area."""
    return layer.in_features * math.prod(layer.module.weight.shape[2:])
