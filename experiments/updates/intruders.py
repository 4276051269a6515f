"""Intruder dimensions (Shuttleworth et al. 2024, arXiv 2410.21228): singular vectors of W_0 + dW that resemble none of
W_0's; counted per layer, and scaled to see what becomes of drift and quality."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
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
)
from experiments.updates.truncation import write_spectra
from experiments.updates.weight_delta import DIRECTIONS, Decomposition

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class IntruderCriterion:
    """Which directions count as intruders."""

    threshold: float = bounded(0.5, above=0, at_most=1)
    """A direction is an intruder if its |cosine| with every left singular vector of W_0 is below this."""
    directions: int = bounded(10, at_least=1, at_most=DIRECTIONS)
    """Leading directions of each tuned matrix to look at for intruders."""

    def positions(self, part: Decomposition) -> list[int]:
        """The positions of a matrix's intruders among its leading directions."""
        below = part.resemblance[: self.directions] < self.threshold
        return [int(position) for position in below.nonzero().flatten()]


def scale_intruders(
    folder: str | Path, criterion: IntruderCriterion, scales: tuple[float, ...] = (0.0, 0.5), overwrite: bool = False
) -> Iterator[RunRecord]:
    """Evaluate a finished run with its intruder dimensions multiplied by each scale; 0 removes them.

    The records are of the method "<method>-intruders". Also writes the spectra, with the resemblance of every leading
    direction, for `python -m reports spectra`. Without intruders there is nothing to evaluate. Raises UsageError as
    `truncate` does.
    """
    check_numbers(criterion)
    run = decompose_run(Path(folder))
    write_spectra(run)
    positions = {part.matrix.key: criterion.positions(part) for part in run.matrices}
    print(describe_counts(positions, criterion), file=sys.stderr)
    if not any(positions.values()):
        print("nothing to scale: no record is written", file=sys.stderr)
        return
    for scale in dict.fromkeys(scales):
        yield evaluate_update(run, scaled_update(run, criterion, positions, scale), overwrite)


def describe_counts(positions: Mapping[str, list[int]], criterion: IntruderCriterion) -> str:
    """How many intruders there are in how many matrices, and the matrices with most of them."""
    total = sum(map(len, positions.values()))
    most = sorted(positions, key=lambda key: -len(positions[key]))[:3]
    named = ", ".join(f"{key} ({len(positions[key])})" for key in most if positions[key])
    matrices = f"{sum(map(bool, positions.values()))} of {len(positions)} matrices"
    return (
        f"{total} intruder dimensions in {matrices}, of the first "
        f"{criterion.directions} directions of each, at |cosine| < {criterion.threshold:g}"
        + (f"; most in {named}" if named else "")
    )


def scaled_update(
    run: DecomposedRun, criterion: IntruderCriterion, positions: Mapping[str, list[int]], scale: float
) -> ChangedUpdate:
    """W_0 + dW with sigma u v^T of every intruder multiplied by `scale` (their section 6); the rest is unchanged."""

    def change_of(part: Decomposition) -> Tensor:
        return part.truncate(len(part.values)) + (scale - 1) * intruding_part(part, positions[part.matrix.key])

    return ChangedUpdate(
        "intruders",
        {"scale": scale, "threshold": criterion.threshold, "directions": criterion.directions},
        run.changed_weights(change_of),
        run.record["parameters"]["trainable"],
        _facts(run, positions),
        size=run.record["size"],
    )


def intruding_part(part: Decomposition, positions: list[int]) -> Tensor:
    """The sum of sigma u v^T of the tuned matrix over its singular directions at these positions."""
    left, values, right = part.tuned_directions
    return (left[:, positions] * values[positions]) @ right[positions]


def _facts(run: DecomposedRun, positions: Mapping[str, list[int]]) -> dict[str, Any]:
    return {
        "intruders_of": run.record["fingerprint"],
        "intruders": {key: len(each) for key, each in positions.items()},
        "intruder_dimensions": sum(map(len, positions.values())),
        "matrices": len(positions),
    }
