"""Intruder dimensions (Shuttleworth et al. 2024, arXiv 2410.21228): singular vectors of W_0 + dW that resemble none of
W_0's; counted per layer, and scaled to see what becomes of drift and quality."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.bounds import bounded
from experiments.errors import check_numbers
from experiments.records.run_record import RunRecord
from experiments.updates.changed_update import (
    ChangedUpdate,
    DecomposedRun,
    decompose_run,
    evaluate_update,
    measurable_record,
)
from experiments.updates.truncation import write_spectra
from experiments.updates.weight_delta import DIRECTIONS, Decomposition

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Intruders:
    """Which directions count as intruders."""

    threshold: float = bounded(0.5, above=0, at_most=1)
    """A direction is an intruder if its |cosine| with every left singular vector of W_0 is below this."""
    directions: int = bounded(10, at_least=1, at_most=DIRECTIONS)
    """Leading directions of each tuned matrix to look at."""

    def of(self, part: Decomposition) -> list[int]:
        """The positions of a matrix's intruders among its leading directions."""
        below = part.resemblance()[: self.directions] < self.threshold
        return [int(position) for position in below.nonzero().flatten()]


def scale_intruders(
    folder: str | Path, intruders: Intruders, scales: tuple[float, ...] = (0.0, 0.5), overwrite: bool = False
) -> Iterator[RunRecord]:
    """Evaluate a finished run with its intruder dimensions multiplied by each scale; 0 removes them.

    The records are of the method "<method>-intruders". Also writes the spectra, with the resemblance of every leading
    direction, for `python -m reports spectra`. Raises UsageError as `truncate` does.
    """
    check_numbers(intruders)
    measurable_record(Path(folder))
    run = decompose_run(Path(folder))
    write_spectra(run)
    found = {part.matrix.key: intruders.of(part) for part in run.matrices}
    print(describe_counts(found, intruders), file=sys.stderr)
    for scale in dict.fromkeys(scales):
        yield evaluate_update(run, scaled_update(run, intruders, found, scale), overwrite)


def describe_counts(found: dict[str, list[int]], intruders: Intruders) -> str:
    """How many intruders there are in how many matrices, and the matrices with most of them."""
    total = sum(map(len, found.values()))
    most = sorted(found, key=lambda key: -len(found[key]))[:3]
    named = ", ".join(f"{key} ({len(found[key])})" for key in most if found[key])
    return (
        f"{total} intruder dimensions in {sum(map(bool, found.values()))} of {len(found)} matrices, of the first "
        f"{intruders.directions} directions of each, at |cosine| < {intruders.threshold:g}"
        + (f"; most in {named}" if named else "")
    )


def scaled_update(run: DecomposedRun, intruders: Intruders, found: dict[str, list[int]], scale: float) -> ChangedUpdate:
    """W_0 + dW with sigma u v^T of every intruder multiplied by `scale` (their section 6); the rest is unchanged."""
    weights = {name: weight.clone() for name, weight in run.base.items()}
    for part in run.matrices:
        change = part.truncate(len(part.values)) + (scale - 1) * intruding_part(part, found[part.matrix.key])
        part.matrix.view(weights[part.matrix.parameter]).add_(change)
    for name, change in run.vectors.items():
        weights[name] += change
    return ChangedUpdate(
        "intruders",
        {"scale": scale, "threshold": intruders.threshold, "directions": intruders.directions},
        weights,
        run.record["parameters"]["trainable"],
        _facts(run, found),
        size=run.record["size"],
    )


def intruding_part(part: Decomposition, positions: list[int]) -> Tensor:
    """The sum of sigma u v^T of the tuned matrix over its singular directions at these positions."""
    import torch

    left, values, right = torch.linalg.svd(part.tuned(), full_matrices=False)
    return (left[:, positions] * values[positions]) @ right[positions]


def _facts(run: DecomposedRun, found: dict[str, list[int]]) -> dict[str, Any]:
    return {
        "intruders_of": run.record["fingerprint"],
        "intruders": {key: len(positions) for key, positions in found.items()},
        "intruder_dimensions": sum(map(len, found.values())),
        "matrices": len(found),
    }
