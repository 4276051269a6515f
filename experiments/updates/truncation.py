"""Rank without retraining: truncate a trained run's update to lower ranks and evaluate each.

The update of every weight matrix is cut by its singular value decomposition, which gives the best approximation of
each rank (Eckart and Young 1936).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UsageError
from experiments.records.folder import replacing
from experiments.records.run_record import RunRecord
from experiments.updates.changed_update import (
    ChangedUpdate,
    DecomposedRun,
    decompose_run,
    evaluate_update,
    measurable_record,
)
from experiments.updates.weight_delta import DIRECTIONS

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_RANKS = (1, 2, 4, 8)


def write_spectra(run: DecomposedRun) -> Path:
    """Write `spectra.safetensors` to the run's folder: per matrix the singular values, right singular vectors,
    `base_norms` and `resemblance`."""
    from safetensors.torch import save_file

    tensors, shapes = {}, {}
    for part in run.matrices:
        key = part.matrix.key
        shapes[key] = [len(part.left), part.right.shape[1]]
        tensors[f"{key}/values"] = part.values
        tensors[f"{key}/right"] = part.right[:DIRECTIONS].half()
        tensors[f"{key}/base_norms"] = part.base_norms()
        tensors[f"{key}/resemblance"] = part.resemblance
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    file = run.folder.path / "spectra.safetensors"
    with replacing(file, sum(tensor.nbytes for tensor in tensors.values())) as unfinished:
        save_file(tensors, unfinished, metadata={"shapes": json.dumps(shapes)})
    return file


def truncate(folder: str | Path, ranks: Sequence[int] = (), overwrite: bool = False) -> Iterator[RunRecord]:
    """Evaluate a finished run with its update cut to each rank; yields the records in turn.

    By default the ranks are 1, 2, 4 and 8, up to the run's own. Each is a record of its own, of the method
    "<method>-truncated". An evaluation on disk is reused unless `overwrite`. One without a finite figure has failed.
    Also writes the spectra of the update, for `python -m reports spectra`. Raises UsageError for a run that is not
    finished, has no finite figure or does not change weights.
    """
    if min(ranks, default=1) < 1:
        raise UsageError(f"--ranks must be at least 1, not {min(ranks)}")
    size = measurable_record(Path(folder))["size"]  # before the base is loaded
    own = size["value"] if size is not None and size["field"] == "rank" else math.inf
    if max(ranks, default=1) > own:
        raise UsageError(f"--ranks must be at most the run's own rank, {own}, not {max(ranks)}")
    ranks = ranks or [rank for rank in DEFAULT_RANKS if rank <= own]
    run = decompose_run(Path(folder))
    print(f"spectra of {len(run.matrices)} matrices: {write_spectra(run)}", file=sys.stderr)
    each = run.record["seconds"].get("evaluate")
    if each:
        print(f"{len(set(ranks))} ranks, each evaluated in about {each:.0f} s, as the run was", file=sys.stderr)
    for rank in dict.fromkeys(ranks):
        yield evaluate_rank(run, rank, overwrite)


def evaluate_rank(run: DecomposedRun, rank: int, overwrite: bool = False) -> RunRecord:
    """Evaluate the update cut to one rank and write its record; the model is restored afterwards."""
    in_matrices = sum(part.parameter_count(rank) for part in run.matrices)
    in_vectors = sum(change.numel() for change in run.vectors.values())
    update = ChangedUpdate(
        "truncated",
        {"rank": rank},
        truncated_weights(run, rank),
        in_matrices + in_vectors,
        _truncation_facts(run, rank),
        size={"field": "rank", "value": rank},
        replaced=run.size_setting(),
    )
    return evaluate_update(run, update, overwrite)


def truncated_weights(run: DecomposedRun, rank: int) -> dict[str, Tensor]:
    """The changed parameters with the update of every matrix cut to `rank`; vectors keep their whole update."""
    return run.changed_weights(lambda part: part.truncate(rank))


def _truncation_facts(run: DecomposedRun, rank: int) -> dict[str, Any]:
    """The source run, the share of the update's squared norm that is left, and the share in vectors (never cut)."""
    left = sum(part.energy(rank) for part in run.matrices)
    total = sum(part.energy() for part in run.matrices)
    in_vectors = run.energy_in_vectors()
    return {
        "truncated_from": run.record["fingerprint"],
        "truncated_matrices": len(run.matrices),
        "energy_kept": left / total,
        "kept_whole": {"tensors": len(run.vectors), "share_of_squared_norm": in_vectors / (in_vectors + total)},
    }
