"""The README's figures, drawn from the shipped records: RECORDS/figures.json says which plot is which file.

{"rank-e2e": {"task": "e2e", "kind": "rank", "metric": "bleu"}} draws rank-e2e.png, by the kinds of `reports plots`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from reports import tables
from reports.errors import ReportError
from reports.plots import style
from reports.plots.draw import KINDS, View, figures
from reports.records import Collection, collect
from reports.schema import Name

FILE = "figures.json"


class ReadmeFigure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One plot: of a task, of a kind of `reports plots`, of a metric where the kind has several."""

    task: Name
    kind: Name
    metric: Name | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind '{self.kind}', expected one of {', '.join(KINDS)}")


def draw_figures(records: Path, out: Path) -> Iterator[Path]:
    """Yield each file, OUT/<name>.png, when it is written. Raises ReportError if a plot cannot be drawn."""
    wanted, collection = read_figures(records), collect(records)
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in wanted.items():
        with tempfile.TemporaryDirectory() as folder:
            drawn = _draw(collection, name, figure, Path(folder) / name)
            (out / drawn.name).write_bytes(drawn.read_bytes())
        yield out / drawn.name


def read_figures(records: Path) -> dict[str, ReadmeFigure]:
    """The figures by name. Raises ReportError."""
    file = records / FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[Name, ReadmeFigure])
    except FileNotFoundError:
        raise ReportError(f"'{file}' is missing: it names the plots, see reports/records/{FILE}") from None
    except (OSError, msgspec.DecodeError) as error:
        raise ReportError(f"'{file}' does not name plots: {error}") from None


def _draw(collection: Collection, name: str, wanted: ReadmeFigure, path: Path) -> Path:
    table, part = tables.build(collection, wanted.task), collection.of_task(wanted.task)
    part.intrinsic = {file: record for file, record in part.intrinsic.items() if wanted.metric in (None, record.metric)}
    metrics = tables.known_metrics([wanted.metric] if wanted.metric else [], table.metrics)
    drawn = list(figures(table, part, wanted.kind, View(metrics or table.metrics[:1])))
    if len(drawn) != 1:
        raise ReportError(
            f"'{name}' of {FILE} fits {len(drawn)} plots of '{wanted.task}' in '{collection.folder}', expected one: "
            "correct its kind and metric, or the records"
        )
    _, figure, notes = drawn[0]
    return next(file for file in style.save(figure, path, notes) if file.suffix == ".png")
