"""Low-rank updates as every tool stores them: one A, one B and one scale per layer; and ours to and from these."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from adapters.backbone import ROLE_GROUPS, Projection, plays
from adapters.errors import AdapterError
from adapters.interchange.layer_names import in_text_encoders, kind_of

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone


class ScaledFactors(Protocol):
    """The update of one projection, scaling * up @ down, as a method hands it over."""

    projection: Projection
    rank: int
    scaling: float

    @property
    def down(self) -> Tensor:
        """A, of shape (rank, in, ...)."""
        ...

    @property
    def up(self) -> Tensor:
        """B, of shape (out, rank, ...)."""
        ...

    @property
    def module_features(self) -> int:
        """Output features of the whole module, of which a fused module's projection is a part."""
        ...


@dataclass(frozen=True)
class Factors:
    """The update scale * B A of one layer: `down` is A (rank, in, ...), `up` is B (out, rank, ...).

    For a convolution, A carries the kernel in its trailing dimensions and B ones.
    """

    down: Tensor
    up: Tensor
    scale: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def alpha(self) -> float:
        """The alpha for which alpha / rank is `scale`, whatever scaling rule was used in training."""
        return as_integer(self.scale * self.rank)


def lora_scaling(rank: int, alpha: float, use_rslora: bool = False) -> float:
    """alpha / rank, or alpha / sqrt(rank) with rank stabilisation."""
    return alpha / (math.sqrt(rank) if use_rslora else rank)


def as_integer(number: float) -> float:
    """The nearest integer if the number differs from it by rounding only: other tools print and compare alphas."""
    return round(number) if abs(number - round(number)) < 1e-9 * max(1.0, abs(number)) else number


def factors_by_layer(updates: Iterable[ScaledFactors]) -> dict[str, Factors]:
    """The factors by layer, on the CPU; the updates of one fused layer become a single one."""
    layers: dict[str, list[ScaledFactors]] = {}
    for update in updates:
        layers.setdefault(update.projection.name, []).append(update)
    return {name: combine(parts) for name, parts in layers.items()}


def combine(updates: list[ScaledFactors]) -> Factors:
    """One A and one B whose rank is the sum of the ranks: the A's stacked, each B in its own rows and columns.

    The product is the same, entry by entry. Scales that differ (because roles have their own rank) go into B,
    relative to the first.
    """
    import torch

    first = updates[0]
    if first.projection.rows is None:
        return Factors(_copy(first.down), _copy(first.up), first.scaling)
    columns = torch.block_diag(*(_copy(update.up) * (update.scaling / first.scaling) for update in updates))
    up = torch.zeros(first.module_features, columns.shape[1], dtype=columns.dtype)
    rows = torch.cat([torch.arange(*update.projection.rows) for update in updates if update.projection.rows])
    up[rows] = columns
    return Factors(torch.cat([_copy(update.down) for update in updates]), up, first.scaling)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def load_factors(
    updates: Mapping[str, ScaledFactors], layers: Mapping[str, Factors], backbone: Backbone, source: str
) -> None:
    """Copy the file's factors into the updates, rescaled so that the output matches the file, whatever the local alpha.

    `updates` are by projection key, `layers` by the model's layer names. A layer's rank may be lower than the
    update's: the rest of B is zero. Raises AdapterError, naming the layers, if the file updates other layers than
    `updates`, or if a rank or shape does not fit; nothing has changed then.
    """
    import torch

    parts = {
        key: part for name, factors in layers.items() for key, part in split(updates, name, factors, source).items()
    }
    _check_layers(updates, parts, backbone, source)
    fitted = {key: _fit(update, parts[key], source) for key, update in updates.items()}
    with torch.no_grad():
        for key, update in updates.items():
            down, up = fitted[key]
            update.down[: len(down)] = down.to(update.down)
            update.up.zero_()
            update.up[:, : len(down)] = up.to(update.up)


def split(updates: Mapping[str, ScaledFactors], name: str, factors: Factors, source: str) -> dict[str, Factors]:
    """The update of a fused layer by projection: its rows of B, and the ranks that are not zero in these rows."""
    fused = [update for update in updates.values() if update.projection.name == name and update.projection.rows]
    if not fused or name in updates:
        return {name: factors}
    if factors.up.ndim != 2 or len(factors.up) != fused[0].module_features:
        raise _wrong_shape(name, factors, source)
    parts, rest = {}, factors.up.clone()
    for update in fused:
        rows = slice(*(update.projection.rows or ()))
        used = factors.up[rows].any(dim=0)
        parts[update.projection.key] = Factors(factors.down[used], factors.up[rows][:, used], factors.scale)
        rest[rows] = 0
    if rest.any():
        targeted = ", ".join(update.projection.part for update in fused)
        raise AdapterError(
            f"'{source}' updates more of '{name}' than {targeted}: set --adapter.targets to the roles that it updates"
        )
    return parts


def _check_layers(
    updates: Mapping[str, ScaledFactors], parts: Mapping[str, Factors], backbone: Backbone, source: str
) -> None:
    unexpected, missing = sorted(parts.keys() - updates.keys()), sorted(updates.keys() - parts.keys())
    modules = {name for name, _ in backbone.model.named_modules()}
    foreign = [name for name in unexpected if name.split(":")[0] not in modules]
    trained = any(update.projection.name.startswith("text_encoder.") for update in updates.values())
    if foreign and in_text_encoders(foreign, backbone) and not trained:
        raise AdapterError(
            f"'{source}' also updates the text encoder ({_listed(foreign)}), which is not trained here: set "
            "--task.train-text-encoder, or remove these tensors from the file"
        )
    if len(foreign) == len(parts):
        raise AdapterError(
            f"'{source}' matches no layer of this model: it is for {kind_of(foreign)}, and has '{foreign[0]}' where "
            f"the adapter has '{next(iter(updates))}'; choose the base that it was trained on"
        )
    if foreign:
        raise AdapterError(
            f"'{source}' updates {_listed(foreign)} of {kind_of(foreign)}, which this model does not have: choose the "
            "base that it was trained on"
        )
    if unexpected:
        raise AdapterError(f"'{source}' also updates {_listed(unexpected)}: add their roles to --adapter.targets")
    for key in sorted(parts):
        _check_shapes(updates[key], parts[key], source)
    if missing:
        raise AdapterError(f"'{source}' has no update for {_listed(missing)}: {_advice(updates, parts)}")


def _advice(updates: Mapping[str, ScaledFactors], parts: Iterable[str]) -> str:
    """The targets whose projections are exactly the `parts`, keys of `updates`."""
    projections = {key: update.projection for key, update in updates.items()}
    roles = list(dict.fromkeys(projections[key].role for key in parts))
    for targets in (*([group] for group in ROLE_GROUPS), roles):
        if {key for key, projection in projections.items() if any(plays(projection, t) for t in targets)} == set(parts):
            return f"set --adapter.targets {' '.join(targets)}, which are the roles that it holds"
    return (
        f"it holds only some layers of {', '.join(roles)}, and --adapter.targets are all layers of a role: choose a "
        "file that updates them all"
    )


def _listed(names: list[str]) -> str:
    """How many layers, and the first of them by name."""
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{len(names)} layers ({shown}{', ...' if len(names) > 3 else ''})"


def _fit(update: ScaledFactors, part: Factors, source: str) -> tuple[Tensor, Tensor]:
    """A and B in the update's shapes (some tools store a 1x1 convolution as a matrix), B rescaled to its scaling."""
    name, rank = update.projection.key, part.rank
    if rank > update.rank:
        role = "" if update.projection.rows is None else f" (or --adapter.ranks {update.projection.part} {rank})"
        raise AdapterError(
            f"'{source}' has rank {rank} in '{name}', not {update.rank}: set --adapter.rank {rank}{role}"
        )
    down_shape, up_shape = _shapes(update, rank)
    return part.down.reshape(down_shape), part.up.reshape(up_shape) * (part.scale / update.scaling)


def _shapes(update: ScaledFactors, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of A and B in the update's layer, for a rank."""
    return (rank, *update.down.shape[1:]), (update.up.shape[0], rank, *update.up.shape[2:])


def _check_shapes(update: ScaledFactors, part: Factors, source: str) -> None:
    """Raise AdapterError if the file's layer has other sizes than the model's, whatever its rank."""
    down_shape, up_shape = _shapes(update, part.rank)
    if _as_matrix(part.down.shape) != _as_matrix(down_shape) or _as_matrix(part.up.shape) != _as_matrix(up_shape):
        raise _wrong_shape(update.projection.key, part, source, f", expected {down_shape} and {up_shape}")


def _as_matrix(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without trailing ones."""
    return tuple(shape[:2]) if all(size == 1 for size in shape[2:]) else tuple(shape)


def _wrong_shape(name: str, factors: Factors, source: str, expected: str = "") -> AdapterError:
    shapes = f"{tuple(factors.down.shape)} and {tuple(factors.up.shape)}"
    return AdapterError(
        f"'{source}' was trained on another base: it has '{name}' in shapes {shapes}{expected}; choose that base"
    )
