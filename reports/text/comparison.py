"""A comparison of two runs as text."""

from __future__ import annotations

from reports.comparison import Comparison, ItemComparison, MethodComparison
from reports.records import Run
from reports.run_groups import CONTENT, settings_of, value_text
from reports.schema import FigureRecord
from reports.text import notes, verdicts
from reports.text.format import decimals, interval_text

FEW_ITEMS = 30  # with fewer items a bootstrap interval is too short


def render(comparison: Comparison) -> str:
    """The methods over seeds first, then the two trained models item by item."""
    paired, runs = comparison.items, comparison.runs
    return "\n".join(
        [
            *_head(runs),
            "",
            *_methods(comparison.methods),
            "",
            *_items_table(paired),
            "",
            *_figures(runs, paired),
            *_notes(comparison),
        ]
    )


def _head(runs: tuple[Run, Run]) -> list[str]:
    """The two runs and every setting that differs; the adapter settings of two methods are not comparable."""
    lines = [f"{name}: {run.label}, {run.folder}" for name, run in zip("AB", runs, strict=True)]
    a, b = (settings_of(run) for run in runs)
    for name in sorted({*a, *b}):
        other_method = name.startswith("adapter.") and runs[0].record.method != runs[1].record.method
        if a.get(name) != b.get(name) and not other_method:
            shown = [value_text(values[name]) if name in values else "not set" for values in (a, b)]
            warning = "Warning: the evaluation may differ: " if name.startswith(("task.", CONTENT)) else ""
            lines.append(f"{warning}{name}: A {shown[0]}, B {shown[1]}")
    return lines


def _methods(methods: MethodComparison | str) -> list[str]:
    """The table's verdict on the two methods in every metric."""
    if isinstance(methods, str):
        return [f"Over seeds: {methods}."]
    table, rows = methods.table, methods.table.rows
    group, reference = (verdicts.group_name(table, rows[i]) for i in (methods.group, methods.reference))
    corrected = verdicts.correction(table, rows[methods.reference])
    lines = [f"Over seeds, {group} against {reference} (as in `python -m reports table {table.task}`; {corrected}):"]
    return lines + [f"{metric}: {verdicts.with_detectable(each)}" for metric, each in methods.verdicts.items()]


def _items_table(paired: list[ItemComparison]) -> list[str]:
    from tabulate import tabulate

    if not paired:
        return ["The item tables share no numeric column, so there is nothing to compare item by item."]
    rows = []
    for row in paired:
        d = row.difference
        places = decimals(d.value, d.low, d.high)
        interval = f"{d.value:+.{places}f} [{d.low:+.{places}f}, {d.high:+.{places}f}]"
        values = [f"{value:.{places}f}" for value in (row.first, row.second)]
        rows.append((row.column, row.n, *values, interval, f"{row.p:.2g}", row.verdict))
    titles = ["these two models", "n", "A", "B", "A - B", "p (Holm)", ""]
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


def _notes(comparison: Comparison) -> list[str]:
    lines = [
        "[ ]: 95 % interval, paired bootstrap over items (if items share a prompt, Student's t over prompts); p is "
        "Holm-corrected for the number of rows.",
        "The rows compare two trained models; only several seeds compare their methods.",
    ]
    if comparison.left_out:
        lines.append(
            f"Warning: {comparison.shared} items are in both runs; up to {comparison.left_out} items of a run are left "
            "out because the other lacks them."
        )
    if any(row.n < FEW_ITEMS for row in comparison.items):
        lines.append(f"Warning: with fewer than {FEW_ITEMS} items the intervals are too short.")
    return lines
