"""Read run folders `RUNS/<task>/<adapter>/<fingerprint>/`; whatever cannot be read is counted and reported."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from reports.errors import ReportError
from reports.intrinsic import IntrinsicRecord
from reports.schema import Record
from reports.shipping.archive import unpacked
from reports.upgrade import upgrade

if TYPE_CHECKING:
    import pandas as pd

AnyRecord = TypeVar("AnyRecord")

MAX_RECORD_BYTES = 64 * 2**20  # a record is a few kilobytes


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
        """The readable lines of steps.jsonl; a run that was killed may leave half a line."""
        return [line for line in read_lines(self.folder / "steps.jsonl") if isinstance(line.get("step"), int)]

    def curve(self) -> list[dict[str, Any]]:
        """The readable lines of curve.jsonl, the metrics along training; none without `--train.evaluate-every`."""
        return [line for line in read_lines(self.folder / "curve.jsonl") if isinstance(line.get("step"), int)]

    def items(self) -> pd.DataFrame:
        """One row per evaluated item, indexed by the item's name. Raises ReportError if there is no such table."""
        import pandas as pd

        path = inside(self.folder, "items.parquet")
        if path is None or not path.is_file():
            raise ReportError(f"'{self.folder}' has no items.parquet, so its items cannot be compared; run it again")
        try:
            items = pd.read_parquet(path)
        except Exception as error:  # pyarrow raises many kinds on a broken file
            raise ReportError(f"'{path}' is not a readable parquet file ({first_line(error)}); run it again") from None
        if "item" not in items or items["item"].duplicated().any():
            raise ReportError(f"'{path}' needs a column 'item' with a unique name per row; run it again")
        return items.set_index("item").sort_index()

    def samples(self, kind: str = "") -> dict[str, Path]:
        """Pictures in samples/ by file name; a name identifies the prompt and the sampling seed across runs.

        `kind` "base" are the untuned base's for the same prompts, "real" real ones beside them, "" the trained model's.
        """
        found = sorted((self.folder / "samples" / kind).glob("*.png"), key=_by_number)
        paths = (inside(self.folder, path) for path in found)
        return {path.name: path for path in paths if path is not None and path.is_file()}

    def captions(self) -> dict[str, str]:
        """Captions of the samples by file name: `samples/7.png` shows item 7, whose row holds its prompt."""
        try:
            items = self.items()
        except ReportError:
            return {}
        column = next((name for name in ("prompt", "caption") if name in items), None)
        return {} if column is None else {f"{item}.png": str(text) for item, text in items[column].items()}


def _by_number(path: Path) -> tuple[int, str]:
    return len(path.name), path.name


@dataclass
class Collection:
    """Everything in a runs folder; nothing is dropped silently, so unreadable records are listed with the reason."""

    folder: Path
    finished: list[Run] = field(default_factory=list)
    failed: list[Run] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    intrinsic: dict[Path, IntrinsicRecord] = field(default_factory=dict)  # results of experiments.intrinsic

    def tasks(self) -> list[str]:
        return sorted({run.record.task for run in [*self.finished, *self.failed]})

    def chosen_tasks(self, chosen: Sequence[str] = ()) -> list[str]:
        """The chosen tasks, by default all, in order. Raises ReportError for one that has no runs."""
        known = self.tasks()
        for task in chosen:
            if task not in known:
                raise ReportError(f"no run of '{task}' in '{self.folder}': expected some of {', '.join(known)}")
        return [task for task in known if not chosen or task in chosen]

    def of_task(self, task: str) -> Collection:
        """The part of one task; an unfinished or unreadable folder belongs to the task in its path."""
        return Collection(
            self.folder,
            [run for run in self.finished if run.record.task == task],
            [run for run in self.failed if run.record.task == task],
            [path for path in self.unfinished if self._task_of(path) == task],
            [(path, reason) for path, reason in self.unreadable if self._task_of(path) == task],
            {path: record for path, record in self.intrinsic.items() if record.task == task},
        )

    def _task_of(self, path: Path) -> str:
        return path.relative_to(self.folder).parts[0]


def collect(folder: str | Path = "runs") -> Collection:
    """Read all runs below `folder`, or those in its archives (`python -m reports ship`).

    Raises ReportError if there are none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"no such folder: '{folder}'. Pass the folder of your runs with --runs, or run something")
    folder = unpacked(folder)
    collection = Collection(folder)
    for path in sorted(folder.glob("*/*/*")):
        if path.is_dir() and not path.name.startswith("."):
            _add_run(collection, path)
    for path in sorted(folder.glob("*/intrinsic-*.json")):
        _add_intrinsic(collection, path)
    if not (collection.finished or collection.failed or collection.unfinished or collection.unreadable):
        raise ReportError(
            f"'{folder}' contains no runs: expected {folder}/TASK/METHOD/FINGERPRINT/result.json; run something"
        )
    return collection


def _add_run(collection: Collection, path: Path) -> None:
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


def _add_intrinsic(collection: Collection, path: Path) -> None:
    try:
        collection.intrinsic[path] = load_record(path, IntrinsicRecord)
    except (OSError, ValueError) as error:
        collection.unreadable.append((path, f"not a record of experiments.intrinsic: {first_line(error)}"))


def read_run(folder: str | Path, root: Path | None = None) -> Run:
    """Read the run in `folder`, which must lie inside `root`. Raises ReportError if it cannot be read."""
    folder = Path(folder)
    path = inside(folder, "result.json")
    if path is None or (root is not None and inside(root, folder) is None):
        raise ReportError("the files of the run lie outside its folder; copy them there instead of linking")
    try:
        return Run(folder, load_record(path, Record))
    except FileNotFoundError:
        raise ReportError(
            f"'{folder}' has no result.json, so it is not a finished run; expected RUNS/TASK/METHOD/FINGERPRINT"
        ) from None
    except (OSError, ValueError) as error:
        raise ReportError(f"result.json is not a valid record: {first_line(error)}") from None


def load_record(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """The file's record of type `kind`. Raises OSError or ValueError (msgspec's and json's errors) if it has none."""
    try:
        return msgspec.convert(_load_json(path), kind)
    except OverflowError as error:  # a number that is too large for its type
        raise ValueError(str(error)) from None


def _load_json(path: Path) -> Any:
    """The file's JSON; a record of an earlier schema is upgraded. Raises ValueError for huge or deeply nested files."""
    if path.stat().st_size > MAX_RECORD_BYTES:
        raise ValueError(f"{path.stat().st_size} bytes, expected at most {MAX_RECORD_BYTES}")
    try:
        return upgrade(json.loads(path.read_text(encoding="utf-8")))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The readable JSON objects of a .jsonl file; none if there is no file."""
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
    """`folder / path`, or None if it leads out of the folder (through '..', an absolute path or a link)."""
    joined = folder / path if isinstance(path, str) else path
    try:
        return joined if joined.resolve().is_relative_to(folder.resolve()) else None
    except (OSError, RuntimeError):  # a link to itself
        return None


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
