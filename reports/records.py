"""Reads run folders `RUNS/<task>/<adapter>/<fingerprint>/`; whatever cannot be read is counted and named."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from reports.errors import ReportError
from reports.intrinsic import Outcome
from reports.schema import Record
from reports.upgrade import upgrade

if TYPE_CHECKING:
    import pandas as pd

LARGEST_RECORD = 64 * 2**20  # bytes; a record is some kilobytes, more is not a record


@dataclass(frozen=True)
class Run:
    """One run folder with a readable record."""

    folder: Path
    record: Record

    @property
    def label(self) -> str:
        size = self.record.size
        return f"{self.record.method}{f' {size.field} {size.value:g}' if size else ''} seed {self.record.seed}"

    def steps(self) -> list[dict[str, Any]]:
        """The lines of steps.jsonl that can be read: a run that was killed may leave half a line."""
        return [line for line in read_lines(self.folder / "steps.jsonl") if isinstance(line.get("step"), int)]

    def items(self) -> pd.DataFrame:
        """One row an evaluated item, by its name. Raises ReportError where there is no such table."""
        import pandas as pd

        path = inside(self.folder, "items.parquet")
        if path is None or not path.is_file():
            raise ReportError(f"'{self.folder}' has no items.parquet, so its items cannot be compared; run it again")
        try:
            items = pd.read_parquet(path)
        except Exception as error:  # pyarrow raises many kinds on a broken file
            raise ReportError(
                f"'{path}' cannot be read as a parquet file ({first_line(error)}); run it again"
            ) from None
        if "item" not in items or items["item"].duplicated().any():
            raise ReportError(f"'{path}' needs a column 'item' that names every row once; run it again")
        return items.set_index("item").sort_index()

    def samples(self) -> dict[str, Path]:
        """Pictures in samples/ by file name; one name is one prompt and seed in every run of a task."""
        paths = (inside(self.folder, path) for path in sorted(self.folder.glob("samples/*.png"), key=_natural))
        return {path.name: path for path in paths if path is not None and path.is_file()}

    def captions(self) -> dict[str, str]:
        """Captions of the samples by file name: `samples/7.png` shows the item 7, whose row has its prompt."""
        try:
            items = self.items()
        except ReportError:
            return {}
        column = next((name for name in ("prompt", "caption") if name in items), None)
        return {} if column is None else {f"{item}.png": str(text) for item, text in items[column].items()}


def _natural(path: Path) -> tuple[int, str]:
    return len(path.name), path.name


@dataclass
class Collection:
    """What a runs folder holds: nothing is left out silently, so the unreadable has its sentence."""

    folder: Path
    finished: list[Run] = field(default_factory=list)
    failed: list[Run] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    outcomes: dict[Path, Outcome] = field(default_factory=dict)  # of searches over many runs

    def tasks(self) -> list[str]:
        return sorted({run.record.task for run in [*self.finished, *self.failed]})

    def of_task(self, task: str) -> Collection:
        """The part of one task; an unfinished or unreadable folder counts to the task that its path says."""
        return Collection(
            self.folder,
            [run for run in self.finished if run.record.task == task],
            [run for run in self.failed if run.record.task == task],
            [path for path in self.unfinished if self._task_of(path) == task],
            [(path, why) for path, why in self.unreadable if self._task_of(path) == task],
            {path: outcome for path, outcome in self.outcomes.items() if outcome.task == task},
        )

    def _task_of(self, path: Path) -> str:
        return path.relative_to(self.folder).parts[0]


def collect(folder: Path) -> Collection:
    """All runs below `folder`. Raises ReportError where there are none at all."""
    if not folder.is_dir():
        raise ReportError(f"there is no folder '{folder}': expected run folders; name it with --runs, or run something")
    collection = Collection(folder)
    for path in sorted(folder.glob("*/*/*")):
        if path.is_dir() and not path.name.startswith("."):
            _add(collection, path)
    for path in sorted(folder.glob("*/intrinsic-*.json")):
        try:
            collection.outcomes[path] = msgspec.convert(load_json(path), Outcome)
        except (OSError, ValueError, OverflowError) as error:
            collection.unreadable.append((path, f"it is no outcome of experiments.intrinsic: {first_line(error)}"))
    if not (collection.finished or collection.failed or collection.unfinished or collection.unreadable):
        raise ReportError(
            f"'{folder}' holds no runs: expected {folder}/TASK/METHOD/FINGERPRINT/result.json; run something"
        )
    return collection


def _add(collection: Collection, path: Path) -> None:
    if not os.path.lexists(path / "result.json"):
        if (path / "config.json").exists():
            collection.unfinished.append(path)
        return
    try:
        run = read_run(path, collection.folder)
    except ReportError as error:
        collection.unreadable.append((path, str(error)))
    else:
        (collection.finished if run.record.status == "finished" else collection.failed).append(run)


def read_run(folder: Path, root: Path | None = None) -> Run:
    """The run in `folder`, which must lie in `root`. Raises ReportError, in one sentence, for whatever is wrong."""
    path = inside(folder, "result.json")
    if path is None or (root is not None and inside(root, folder) is None):
        raise ReportError("the run's files lie outside its folder; copy them there instead of linking")
    try:
        return Run(folder, msgspec.convert(upgrade(load_json(path)), Record))
    except FileNotFoundError:
        raise ReportError(
            f"'{folder}' has no result.json: it is no finished run; expected RUNS/TASK/METHOD/HASH"
        ) from None
    except (OSError, ValueError, OverflowError) as error:  # msgspec's and json's errors are ValueErrors
        raise ReportError(f"result.json is no record: {first_line(error)}") from None


def load_json(path: Path) -> Any:
    """Raises ValueError also for files that are far too large or nested far too deep."""
    if path.stat().st_size > LARGEST_RECORD:
        raise ValueError(f"{path.stat().st_size} bytes, expected at most {LARGEST_RECORD}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The readable JSON objects of a .jsonl file; none where there is no file."""
    if inside(path.parent, path) is None or not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value


def inside(folder: Path, path: Path | str) -> Path | None:
    """`folder / path`, or None where it leads out of the folder (through '..', an absolute path or a link)."""
    joined = folder / path if isinstance(path, str) else path
    try:
        return joined if joined.resolve().is_relative_to(folder.resolve()) else None
    except (OSError, RuntimeError):  # a link to itself
        return None


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
