"""Searches of learning rates: of the runs in a folder, and in files that `sweep --save-rates FILE` writes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from tabulate import tabulate

from reports.errors import ReportError
from reports.records import collect, first_line
from reports.run_groups import CONTENT, RunGroup, group_runs, value_text
from reports.schema import Name, SearchRecord
from reports.text.format import one_line

COLUMNS = ("task", "method", "size", "settings", "rate", "loss", "next lower", "next higher", "trials", "inside")


class SavedSearch(SearchRecord, frozen=True, kw_only=True):
    """The search of one method at one size on one task; `settings` are the method's other ones that tell it apart."""

    task: Name
    method: Name
    size: float | None = None
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    base_revision: str | None = None

    def __post_init__(self) -> None:
        losses = dict(self.losses())
        if not all(loss is None or math.isfinite(loss) for loss in losses.values()):
            raise ValueError("a loss is not finite, expected null for a training that failed")
        if losses.get(self.chosen) is None:
            raise ValueError(f"the chosen rate {self.chosen:g} has no loss among the trials")

    def losses(self) -> list[tuple[float, float | None]]:
        """Rates in ascending order, each with its validation loss, or None if the training failed."""
        return sorted({trial.learning_rate: trial.validation_loss for trial in self.trials}.items())

    @property
    def best(self) -> float:
        """The validation loss at the chosen rate."""
        loss = dict(self.losses())[self.chosen]
        assert loss is not None, "checked when the search was read"
        return loss

    @property
    def at_an_end(self) -> str | None:
        """Where no rate was tried beside the chosen one; None if the chosen one has neighbours on both sides."""
        rates = [rate for rate, _ in self.losses()]
        return {rates[0]: "lowest", rates[-1]: "highest"}.get(self.chosen)


def read_searches(paths: Sequence[Path]) -> list[SavedSearch]:
    """The distinct searches of files and runs folders, by task, method, settings and size. Raises ReportError."""
    found = [search for path in paths for search in (_of_runs(path) if path.is_dir() else _of_file(path))]
    if not found:
        raise ReportError(
            f"no search of learning rates in {', '.join(map(str, paths))}: expected runs of `python -m "
            "experiments.sweep ... --search-lr 5`, or a file that its --save-rates wrote"
        )
    distinct = {
        (s.task, s.method, _settings_text(s.settings), s.size, s.base_revision, *s.losses()): s for s in reversed(found)
    }
    return sorted(distinct.values(), key=lambda s: (s.task, s.method, _settings_text(s.settings), s.size or 0))


def _of_file(file: Path) -> list[SavedSearch]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, list[SavedSearch]])["searches"]
    except (OSError, msgspec.DecodeError, KeyError) as error:
        raise ReportError(
            f"'{file}' holds no searches of learning rates ({first_line(error)}): expected a folder of runs, or a file "
            "that `python -m experiments.sweep ... --search-lr 5 --save-rates FILE` wrote"
        ) from None


def _of_runs(folder: Path) -> Iterator[SavedSearch]:
    try:
        collection = collect(folder)
    except ReportError:  # no runs, and so no searches
        return
    for task in collection.tasks():
        part = collection.of_task(task)
        for group in group_runs(part.finished, part.failed):
            yield from _of_group(group)


def _of_group(group: RunGroup) -> Iterator[SavedSearch]:
    """The searches of runs that differ in the seed: mostly one, which all of them share."""
    settings = {
        name.split(".", 1)[1]: value
        for name, value in group.settings.items()
        if name != "train.learning_rate" and not name.startswith(CONTENT)
    }
    for run in (*group.finished, *group.failed):
        if run.record.search is not None:
            content = run.record.content.get("task")
            own = {
                "task": run.record.task,
                "method": group.method,
                "size": group.size.value if group.size else None,
                "settings": settings,
                "base_revision": content.get("base") if isinstance(content, dict) else None,
            }
            try:
                yield SavedSearch(**msgspec.structs.asdict(run.record.search), **own)
            except ValueError as error:
                raise ReportError(f"the search in '{run.folder}' is damaged ({error}): run it again") from None


def by_task(searches: Sequence[SavedSearch]) -> dict[str, list[SavedSearch]]:
    """The searches of each task; a task that was searched on several bases has one entry for each."""
    bases: dict[str, set[str | None]] = defaultdict(set)
    for search in searches:
        bases[search.task].add(search.base_revision)
    tasks: dict[str, list[SavedSearch]] = defaultdict(list)
    for search in searches:
        several = len(bases[search.task]) > 1
        tasks[f"{search.task}, base {search.base_revision or 'unknown'}" if several else search.task].append(search)
    return tasks


def by_settings(searches: Sequence[SavedSearch]) -> dict[tuple[str, str], list[SavedSearch]]:
    """One task's searches by method and text of the settings, in order of size; a method's are next to each other."""
    names: dict[str, set[str]] = defaultdict(set)
    for search in searches:
        names[search.method] |= search.settings.keys()
    groups: dict[tuple[str, str], list[SavedSearch]] = defaultdict(list)
    for search in searches:
        settings = {name: search.settings.get(name, "default") for name in sorted(names[search.method])}
        groups[search.method, _settings_text(settings)].append(search)
    return {key: sorted(group, key=lambda search: search.size or 0) for key, group in groups.items()}


def _settings_text(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value_text(value)}" for name, value in sorted(settings.items()))


def render(searches: Sequence[SavedSearch]) -> str:
    """One row per search, and what the numbers are."""
    rows, lines = [], []
    for task, part in by_task(searches).items():
        for (method, settings), group in by_settings(part).items():
            rows += [[one_line(text) for text in (task, method, *_cells(search, settings))] for search in group]
        lines += notes(task, part)
    shown = [i for i, title in enumerate(COLUMNS) if title != "settings" or any(row[i] for row in rows)]
    cells = [[row[i] for i in shown] for row in rows]
    align = ["left" if COLUMNS[i] in ("task", "method", "settings", "inside") else "right" for i in shown]
    titles = [COLUMNS[i] for i in shown]
    return "\n".join([tabulate(cells, titles, disable_numparse=True, colalign=align), "", *lines])


def _cells(search: SavedSearch, settings: str) -> list[str]:
    size = "" if search.size is None else f"{search.size:g}"
    losses = search.losses()
    at = [rate for rate, _ in losses].index(search.chosen)
    beside = [loss_text(losses[i][1]) if 0 <= i < len(losses) else "" for i in (at - 1, at + 1)]
    inside = f"no, the {search.at_an_end}" if search.at_an_end else "yes"
    return [size, settings, f"{search.chosen:g}", loss_text(search.best), *beside, str(len(losses)), inside]


def loss_text(loss: float | None) -> str:
    return "failed" if loss is None else f"{loss:#.4g}"


def notes(task: str, searches: Sequence[SavedSearch]) -> list[str]:
    """How the rates of one task were tried and chosen."""
    ways = sorted({(s.chosen_by or "the validation loss", s.steps, s.share, s.factor, s.seed) for s in searches})
    lines = []
    for chosen_by, steps, share, factor, seed in ways:
        part = "" if share == 1 else f" ({100 * share:g} % of a run's)"
        lines.append(
            f"{task}: chosen by {chosen_by}; trials of {steps} steps{part}, seed {seed}, rates at first a factor of "
            f"{factor:g} apart."
        )
    return lines


def edges(rates: Sequence[float]) -> list[float]:
    """The borders of the rates' cells on a log axis: geometric means, and as far beyond the ends."""
    if len(rates) == 1:
        return [rates[0] / 2, rates[0] * 2]
    middles = [(a * b) ** 0.5 for a, b in pairwise(rates)]
    return [rates[0] ** 2 / middles[0], *middles, rates[-1] ** 2 / middles[-1]]
