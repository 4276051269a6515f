"""Low-rank updates as all tools have them: one A, one B and one scale a layer. Ours to these and back, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.lora import LoraAttachment, LowRankUpdate


@dataclass(frozen=True)
class Factors:
    """The update scale * B A of one layer: `down` is A (rank, in, ...), `up` is B (out, rank, ...).

    Layers of convolutions carry their kernel in A's trailing dimensions and ones in B's.
    """

    down: Tensor
    up: Tensor
    scale: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def alpha(self) -> float:
        """What alpha / rank gives `scale` back from, whatever the scaling rule was."""
        return whole(self.scale * self.rank)


def whole(number: float) -> float:
    """An integer where the number is one, but for rounding: other tools print and compare it."""
    return round(number) if abs(number - round(number)) < 1e-9 * max(1.0, abs(number)) else number


def factors_of(attachment: LoraAttachment) -> dict[str, Factors]:
    """The updates by layer, on the CPU; a fused layer's several updates as one."""
    return {name: combined(updates) for name, updates in by_layer(attachment.updates.values()).items()}


def by_layer(updates: Iterable[LowRankUpdate]) -> dict[str, list[LowRankUpdate]]:
    found: dict[str, list[LowRankUpdate]] = {}
    for update in updates:
        found.setdefault(update.projection.name, []).append(update)
    return found


def combined(updates: list[LowRankUpdate]) -> Factors:
    """One A and one B of the ranks' sum: the A's one above the other, each B in its own rows and columns.

    The product is the same, entry by entry; scales that differ (a rank of its own for a role) are in B, relative to
    the first.
    """
    import torch

    first = updates[0]
    if first.projection.rows is None:
        return Factors(*_tensors(first), first.scaling)
    downs, ups = zip(*map(_tensors, updates), strict=True)
    columns = torch.block_diag(
        *(up * (update.scaling / first.scaling) for update, up in zip(updates, ups, strict=True))
    )
    up = torch.zeros(first.module_features, columns.shape[1], dtype=columns.dtype)
    rows = torch.cat([torch.arange(*update.projection.rows) for update in updates if update.projection.rows])
    up[rows] = columns
    return Factors(torch.cat(downs), up, first.scaling)


def _tensors(update: LowRankUpdate) -> tuple[Tensor, Tensor]:
    down, up = (update[name].detach().to("cpu", copy=True).contiguous() for name in (update.down_name, update.up_name))
    return down, up


def take(attachment: LoraAttachment, layers: Mapping[str, Factors], source: str) -> None:
    """Give the attachment these updates: its output is then the file's, whatever its own alpha.

    A layer's rank may be lower than the attachment's (the rest of B is zero). Raises AdapterError, naming the layers,
    where the file updates a layer that the attachment does not, or the reverse, or a rank or shape does not fit.
    """
    import torch

    parts = {
        key: part for name, found in layers.items() for key, part in split(attachment, name, found, source).items()
    }
    _check_layers(attachment, parts, source)
    fitted = {key: _fitted(update, parts[key], source) for key, update in attachment.updates.items()}
    with torch.no_grad():
        for key, update in attachment.updates.items():
            down, up = fitted[key]
            update[update.down_name][: len(down)] = down.to(update[update.down_name])
            update[update.up_name].zero_()
            update[update.up_name][:, : len(down)] = up.to(update[update.up_name])


def split(attachment: LoraAttachment, name: str, found: Factors, source: str) -> dict[str, Factors]:
    """A fused layer's update by its parts: the rows of B that are a part's, and the columns that are not zero there."""
    updates = [u for u in attachment.updates.values() if u.projection.name == name and u.projection.rows]
    if not updates or name in attachment.updates:
        return {name: found}
    if found.up.ndim != 2 or len(found.up) != updates[0].module_features:
        raise _wrong_shape(name, found, source)
    parts, rest = {}, found.up.clone()
    for update in updates:
        rows = slice(*(update.projection.rows or ()))
        used = found.up[rows].any(dim=0)
        parts[update.projection.key] = Factors(found.down[used], found.up[rows][:, used], found.scale)
        rest[rows] = 0
    if rest.any():
        taken = ", ".join(update.projection.part for update in updates)
        raise AdapterError(
            f"'{source}' updates more of '{name}' than {taken}: set --adapter.targets to the roles that it updates"
        )
    return parts


def _check_layers(attachment: LoraAttachment, parts: Mapping[str, Factors], source: str) -> None:
    ours = attachment.updates.keys()
    unknown, missing = sorted(parts.keys() - ours), sorted(ours - parts.keys())
    modules = {name for name, _ in attachment.backbone.model.named_modules()}
    foreign = [name for name in unknown if name.split(":")[0] not in modules]
    if len(foreign) == len(parts):
        raise AdapterError(
            f"'{source}' matches no layer of this model: it has '{foreign[0]}', the adapter '{next(iter(ours))}'; "
            "choose the base that it was trained on"
        )
    if foreign:
        raise AdapterError(
            f"'{source}' updates {listed(foreign)}, which this model has not: choose another base or file"
        )
    if unknown:
        raise AdapterError(f"'{source}' also updates {listed(unknown)}: add their roles to --adapter.targets")
    if missing:
        raise AdapterError(f"'{source}' has no update for {listed(missing)}: take their roles from --adapter.targets")


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{len(names)} layers ({shown}{', ...' if len(names) > 3 else ''})"


def _fitted(update: LowRankUpdate, part: Factors, source: str) -> tuple[Tensor, Tensor]:
    """A and B in the update's own shapes (a 1x1 convolution is a matrix to some tools), scaled for its alpha."""
    name, rank = update.projection.key, part.rank
    if rank > update.rank:
        role = "" if update.projection.rows is None else f" (or --adapter.ranks {update.projection.part} {rank})"
        raise AdapterError(
            f"'{source}' has rank {rank} in '{name}', not {update.rank}: set --adapter.rank {rank}{role}"
        )
    down_shape = (rank, *update[update.down_name].shape[1:])
    up_shape = (update[update.up_name].shape[0], rank, *update[update.up_name].shape[2:])
    if _matrix(part.down.shape) != _matrix(down_shape) or _matrix(part.up.shape) != _matrix(up_shape):
        raise _wrong_shape(name, part, source, f", expected {down_shape} and {up_shape}")
    return part.down.reshape(down_shape), part.up.reshape(up_shape) * (part.scale / update.scaling)


def _matrix(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without trailing ones."""
    return tuple(shape[:2]) if all(size == 1 for size in shape[2:]) else tuple(shape)


def _wrong_shape(name: str, found: Factors, source: str, expected: str = "") -> AdapterError:
    shapes = f"{tuple(found.down.shape)} and {tuple(found.up.shape)}"
    return AdapterError(f"'{source}' has '{name}' in shapes {shapes}{expected}: choose the base that it was trained on")
