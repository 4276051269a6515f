"""A LoRA extracted from a trained run's update: the first singular directions of every layer's change, as files that
diffusers, kohya's tools and peft load, and its own evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.backbone import Projection, count_roles, plays
from adapters.bounds import BOUNDS, LARGEST_WIDTH, Bounds, bounded
from adapters.errors import AdapterError
from experiments.errors import UsageError, check_numbers
from experiments.records.adapter_file import write_exports
from experiments.records.run_record import RunRecord
from experiments.updates.changed_update import (
    ChangedUpdate,
    DecomposedRun,
    decompose_run,
    evaluate_update,
    folder_of,
)
from experiments.updates.weight_delta import Decomposition

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.interchange.exported_file import ExportedFile

ROUNDING = 1e-6  # singular values below this share of the largest are rounding errors


@dataclass(frozen=True)
class RankChoice:
    """How many singular directions each layer keeps: exactly one of `rank` and `energy` is set."""

    rank: int | None = bounded(None, at_least=1, at_most=LARGEST_WIDTH)
    """Rank of every layer."""
    energy: float | None = bounded(None, above=0, at_most=1)
    """Share of the squared norm of each layer's update to keep: every layer gets the smallest rank that does."""
    ranks: dict[str, int] = field(default_factory=dict, metadata={BOUNDS: Bounds(at_least=0, at_most=LARGEST_WIDTH)})
    """Ranks of roles that differ, for example "query 8 value 2"; 0 leaves the role out."""

    def check(self) -> None:
        """Raise UsageError unless the choice makes sense."""
        check_numbers(self)
        if (self.rank is None) == (self.energy is None):
            raise UsageError("give either --rank 8 or --energy 0.9: how much of the update the LoRA keeps")

    @property
    def settings(self) -> dict[str, Any]:
        """What identifies the choice in a record."""
        own = {"rank": self.rank} if self.energy is None else {"energy": self.energy}
        return own | ({"ranks": dict(self.ranks)} if self.ranks else {})

    def of(self, projection: Projection, part: Decomposition) -> int:
        """The rank of one layer: at most that of its update."""
        import torch

        own = [rank for role, rank in self.ranks.items() if plays(projection, role)]
        whole = int((part.values > ROUNDING * part.values[0]).sum())
        if own or self.energy is None:
            return min(own[-1] if own else self.rank or 0, whole)
        energies = part.values.double().square().cumsum(0)
        return int(torch.searchsorted(energies, self.energy * energies[-1] * (1 - 1e-9))) + 1


@dataclass
class LayerFactors:
    """B A of one projection, as the file formats take it (`adapters.interchange.factors.ScaledFactors`)."""

    projection: Projection
    rank: int
    down: Tensor
    up: Tensor
    module_features: int
    scaling: float = 1.0

    @classmethod
    def of(cls, projection: Projection, part: Decomposition, rank: int) -> LayerFactors:
        """A and B that share the singular values evenly, in the shapes of LoRA for the layer."""
        weight, root = projection.module.weight, part.values[:rank].sqrt()
        kernel = tuple(weight.shape[2:])
        down = (root[:, None] * part.right[:rank]).reshape(rank, projection.in_features, *kernel)
        up = (part.left[:, :rank] * root).reshape(projection.out_features, rank, *[1] * len(kernel))
        return cls(projection, rank, down, up, weight.shape[1 if projection.transposed else 0])

    @property
    def numbers(self) -> int:
        return self.down.numel() + self.up.numel()


def extract(folder: str | Path, choice: RankChoice, overwrite: bool = False) -> RunRecord:
    """Extract a LoRA from the finished run in a folder, write it in every format of its model, and evaluate it.

    The record is of the method "<method>-extracted", with the files in its folder's `export/FORMAT`. Raises UsageError
    for a run that is not finished, has no finite figure, or changes no weights that a LoRA can express.
    """
    choice.check()
    run = decompose_run(Path(folder))
    factors = extracted_factors(run, choice)
    target = folder_of(run, "extracted", choice.settings).path
    for name, files in exports(run, factors):
        write_exports(files, target / "export" / name)
    return evaluate_update(run, changed_update(run, choice, factors), overwrite)


def extracted_factors(run: DecomposedRun, choice: RankChoice) -> dict[str, LayerFactors]:
    """The factors of every layer that LoRA can update, by the projection's key. Raises UsageError if there is none."""
    projections = {projection.key: projection for projection in run.prepared.backbone.all_projections()}
    for role in choice.ranks:
        if not any(plays(projection, role) for projection in projections.values()):
            roles = ", ".join(count_roles(projections.values()))
            raise UsageError(f"--ranks: this model has no layer with the role '{role}'; the roles are {roles}")
    factors = {}
    for part in run.matrices:
        projection = projections.get(part.matrix.key)
        rank = 0 if projection is None else choice.of(projection, part)
        if projection is not None and rank:
            factors[projection.key] = LayerFactors.of(projection, part, rank)
    if not factors:
        raise UsageError(f"'{run.folder.path}' changed no layer that a LoRA updates: choose a run that changed some")
    return factors


def exports(run: DecomposedRun, factors: Mapping[str, LayerFactors]) -> Iterator[tuple[str, list[ExportedFile]]]:
    """The files of every format that the model has, by the format's name."""
    from adapters.interchange.lora import EXPORTS, export_lora

    for name in EXPORTS:
        try:
            yield name, export_lora(factors, run.prepared.backbone, name)
        except AdapterError:  # a language model has only peft's, a UNet with its text encoder all others
            continue


def changed_update(run: DecomposedRun, choice: RankChoice, factors: Mapping[str, LayerFactors]) -> ChangedUpdate:
    """The base with the LoRA alone: what a LoRA cannot express (biases, norms, embeddings) is the base's."""

    def change_of(part: Decomposition) -> Tensor | None:
        layer = factors.get(part.matrix.key)
        return None if layer is None else part.truncate(layer.rank)

    return ChangedUpdate(
        "extracted",
        choice.settings,
        run.changed_weights(change_of, with_vectors=False),
        sum(layer.numbers for layer in factors.values()),
        _facts(run, factors),
        size={"field": "rank", "value": choice.rank} if choice.rank else None,
        replaced=run.size_setting(),
    )


def _facts(run: DecomposedRun, factors: Mapping[str, LayerFactors]) -> dict[str, Any]:
    """The source run, ranks by layer, the share of squared norm that the LoRA keeps, and what it leaves out whole."""
    layers = [part for part in run.matrices if part.matrix.key in factors]
    kept = sum(part.energy(factors[part.matrix.key].rank) for part in layers)
    inside = sum(part.energy() for part in layers)
    whole = sum(part.energy() for part in run.matrices) + run.energy_in_vectors()
    return {
        "extracted_from": run.record["fingerprint"],
        "ranks": {key: layer.rank for key, layer in factors.items()},
        "energy_kept": kept / inside,
        "left_out": {
            "tensors": len(run.matrices) - len(factors) + len(run.vectors),
            "share_of_squared_norm": (whole - inside) / whole,
        },
    }
