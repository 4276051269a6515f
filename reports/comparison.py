"""Compare two runs on the items that both were evaluated on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reports.errors import ReportError
from reports.records import Run, read_run
from reports.run_groups import settings_of, value_text
from reports.schema import FigureRecord
from reports.statistics import LEVEL, Difference, decimals, holm, paired_on_items
from reports.text import notes
from reports.text.format import interval_text

if TYPE_CHECKING:
    import pandas as pd

FEW_ITEMS = 30  # with fewer items a bootstrap interval is too short


@dataclass(frozen=True)
class ItemComparison:
    """One per-item column: both means and the difference, first minus second; `p` is Holm-corrected."""

    column: str
    n: int
    first: float
    second: float
    difference: Difference
    p: float
    lower_is_better: bool | None  # None if the column is not a metric of the record

    @property
    def verdict(self) -> str:
        if self.p >= 1 - LEVEL:
            return "not significant"
        if self.lower_is_better is None:
            return "differs"
        return "A better" if (self.difference.value < 0) == self.lower_is_better else "B better"


def compare(first: Path, second: Path) -> str:
    """The comparison as text. Raises ReportError if the runs cannot be compared."""
    runs = read_run(first), read_run(second)
    check_comparable(*runs)
    items = runs[0].items(), runs[1].items()
    shared = items[0].index.intersection(items[1].index)
    if shared.empty:
        raise ReportError(
            "the two runs have no item in common; compare runs with the same evaluation settings. "
            f"'{first}' has items such as {items[0].index[0]!r}, '{second}' such as {items[1].index[0]!r}"
        )
    paired = pair(runs, (items[0].loc[shared], items[1].loc[shared]))
    return "\n".join(
        [*_head(runs), "", *_items_table(paired), "", *_figures(runs, paired), *_notes(items, shared, paired)]
    )


def check_comparable(first: Run, second: Run) -> None:
    for run in (first, second):
        if run.record.status != "finished":
            raise ReportError(f"'{run.folder}' failed ({run.record.reason}): only finished runs can be compared")
    if first.record.task != second.record.task:
        raise ReportError(
            f"the runs have different tasks, '{first.record.task}' and '{second.record.task}': pass runs of one task"
        )


def pair(runs: tuple[Run, Run], items: tuple[pd.DataFrame, pd.DataFrame]) -> list[ItemComparison]:
    """Compare every numeric column that both item tables have, and correct for their number."""
    import numpy as np
    from pandas.api.types import is_numeric_dtype

    columns = [c for c in items[0].columns.intersection(items[1].columns) if all(is_numeric_dtype(t[c]) for t in items)]
    differences: dict[str, tuple[Difference, list[float], int]] = {}
    for column in columns:
        values = np.array([table[column].to_numpy(float, na_value=np.nan) for table in items])  # (2, n)
        values = values[:, np.isfinite(values).all(0)]
        if (difference := paired_on_items(*values)) is not None:
            differences[str(column)] = difference, values.mean(1).tolist(), values.shape[1]
    corrected = holm([difference.p for difference, _, _ in differences.values()])
    metrics = runs[0].record.metrics
    return [
        ItemComparison(
            name, n, a, b, difference, p or 0.0, metrics[name].better == "lower" if name in metrics else None
        )
        for (name, (difference, (a, b), n)), p in zip(differences.items(), corrected, strict=True)
    ]


def _head(runs: tuple[Run, Run]) -> list[str]:
    """The two runs and every setting that differs; the adapter settings of two methods are not comparable."""
    lines = [f"{name}: {run.label}, {run.folder}" for name, run in zip("AB", runs, strict=True)]
    a, b = (settings_of(run) for run in runs)
    for name in sorted({*a, *b}):
        other_method = name.startswith("adapter.") and runs[0].record.method != runs[1].record.method
        if a.get(name) != b.get(name) and not other_method:
            shown = [value_text(values[name]) if name in values else "not set" for values in (a, b)]
            warning = "Warning: the evaluation may differ: " if name.startswith("task.") else ""
            lines.append(f"{warning}{name}: A {shown[0]}, B {shown[1]}")
    return lines


def _items_table(paired: list[ItemComparison]) -> list[str]:
    from tabulate import tabulate

    if not paired:
        return ["The item tables share no numeric column, so there is nothing to compare item by item."]
    rows = []
    for row in paired:
        d = row.difference
        places = decimals(d.value, d.low, d.high)
        interval = f"{d.value:+.{places}f} [{d.low:+.{places}f}, {d.high:+.{places}f}]"
        rows.append(
            (
                row.column,
                row.n,
                f"{row.first:.{places}f}",
                f"{row.second:.{places}f}",
                interval,
                f"{row.p:.2g}",
                row.verdict,
            )
        )
    titles = ["per item", "n", "A", "B", "A - B", "p (Holm)", ""]
    return tabulate(
        rows, titles, tablefmt="plain", disable_numparse=True, colalign=["left", *["right"] * 5, "left"]
    ).splitlines()


def _figures(runs: tuple[Run, Run], paired: list[ItemComparison]) -> list[str]:
    """How each paired metric was measured; then the figures of the whole set (such as FID), which have no verdict."""
    shared = {name: [a, b] for name, a in runs[0].record.metrics.items() if (b := runs[1].record.metrics.get(name))}
    measured = [notes.metric_note(row.column, shared[row.column]) for row in paired if row.column in shared]
    whole = shared.keys() - {row.column for row in paired}
    return measured + [_whole_set(name, *figures) for name, figures in shared.items() if name in whole]


def _whole_set(name: str, first: FigureRecord, second: FigureRecord) -> str:
    unit = notes.unit_text([first, second])
    end = f"; unit: {unit}" if unit else ""
    return f"{name} (whole set, not paired): A {_figure(first)}, B {_figure(second)}{end}"


def _figure(figure: FigureRecord) -> str:
    value = interval_text(figure.value, figure.low, figure.high, "()")
    return f"{value} {notes.n_text([figure])} {figure.extractor}".rstrip()


def _notes(items: tuple[pd.DataFrame, pd.DataFrame], shared: pd.Index, paired: list[ItemComparison]) -> list[str]:
    lines = ["[ ]: 95 % interval, paired bootstrap over items; p is Holm-corrected for the number of columns."]
    lines.append(
        "This compares two trained models. To compare methods, train several seeds and use `python -m reports table`."
    )
    left_out = max(len(table) - len(shared) for table in items)
    if left_out:
        lines.append(
            f"Warning: {len(shared)} items are in both runs; up to {left_out} items of a run are left out because the "
            "other lacks them."
        )
    if any(row.n < FEW_ITEMS for row in paired):
        lines.append(f"Warning: with fewer than {FEW_ITEMS} items the intervals are too short.")
    return lines
