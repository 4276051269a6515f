"""Searches of learning rates, as `python -m experiments.sweep --search-lr 5 --save-rates FILE` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from tabulate import tabulate

from reports.errors import ReportError
from reports.schema import SearchRecord

COLUMNS = ("task", "method", "size", "chosen rate", "loss", "next lower", "next higher", "trials", "inside the grid")


class SavedSearch(SearchRecord, frozen=True, kw_only=True):
    """The search of one method at one size on one task."""

    task: str
    method: str
    size: int | None = None
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    batch_size: int | None = None
    base_revision: str | None = None

    @property
    def label(self) -> str:
        """The method with its settings, without its size."""
        return ", ".join([self.method, *(f"{name} {value}" for name, value in self.settings.items())])

    def losses(self) -> list[tuple[float, float | None]]:
        """Rates in ascending order, each with its validation loss, or None if the training failed."""
        return sorted((trial.learning_rate, trial.validation_loss) for trial in self.trials)


@dataclass(frozen=True)
class Neighbours:
    """The validation loss at the chosen rate and at the rates next to it; None at an end or if training failed."""

    lower: float | None
    chosen: float | None
    higher: float | None


def read_searches(files: Sequence[Path]) -> list[SavedSearch]:
    """The searches in the files, ordered by task, method and size. Raises ReportError for a file without any."""
    searches: list[SavedSearch] = []
    for file in files:
        try:
            searches += msgspec.json.decode(file.read_bytes(), type=dict[str, list[SavedSearch]])["searches"]
        except (OSError, msgspec.DecodeError, KeyError) as error:
            raise ReportError(
                f"'{file}' holds no searches of learning rates ({error}): expected a file that "
                "`python -m experiments.sweep ... --search-lr 5 --save-rates FILE` wrote"
            ) from None
    if not searches:
        raise ReportError("the files hold no search: expected at least one finished search of learning rates")
    return sorted(searches, key=lambda search: (search.task, search.label, search.size or 0))


def neighbours(search: SavedSearch) -> Neighbours:
    losses = search.losses()
    at = [rate for rate, _ in losses].index(search.chosen)
    lower = losses[at - 1][1] if at else None
    higher = losses[at + 1][1] if at + 1 < len(losses) else None
    return Neighbours(lower, losses[at][1], higher)


def render(searches: Sequence[SavedSearch]) -> str:
    """One row per search, and what the numbers are."""
    rows = []
    for search in searches:
        beside = neighbours(search)
        losses = ["" if loss is None else f"{loss:.4g}" for loss in (beside.chosen, beside.lower, beside.higher)]
        inside = "yes" if search.edge is None else f"no: the {search.edge}"
        rows.append([search.task, search.label, search.size, f"{search.chosen:g}", *losses, len(search.trials), inside])
    return "\n".join([tabulate(rows, COLUMNS, disable_numparse=True), "", *notes(searches)])


def notes(searches: Sequence[SavedSearch]) -> list[str]:
    """What was tried and how the rate was chosen."""
    ways = {(search.chosen_by, search.steps, search.factor, search.seed, search.task) for search in searches}
    return [
        f"{task}: chosen by {chosen_by}, {steps} steps, seed {seed}; neighbouring rates {factor:g} apart, refined once"
        for chosen_by, steps, factor, seed, task in sorted(ways)
    ]


def edges(rates: Sequence[float]) -> list[float]:
    """The borders of the rates' cells on a log axis: geometric means, and as far beyond the ends."""
    if len(rates) == 1:
        return [rates[0] / 2, rates[0] * 2]
    middles = [(a * b) ** 0.5 for a, b in pairwise(rates)]
    return [rates[0] ** 2 / middles[0], *middles, rates[-1] ** 2 / middles[-1]]
