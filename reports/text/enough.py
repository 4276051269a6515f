"""The answer to "which size is enough": one sentence per method that was run at several sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.run_groups import RunGroup, at_best_rates, plot_lines, size_text, versions_of
from reports.statistics.gains import gain
from reports.statistics.verdicts import MARGIN, MARGIN_TEXT, Verdict
from reports.tables import Table
from reports.text.format import one_line, short_text
from reports.text.verdicts import group_name


def rank_sentences(table: Table) -> list[str]:
    """For each line of sizes, how it compares with the planned reference in the primary metric; none without one.

    Each size is that of its best rate, by validation loss.
    """
    metric, reference = table.primary_metric, table.planned
    if metric is None or reference is None or not reference.values(metric):
        return []
    comparable = [g for g in table.rows if versions_of(g) == versions_of(reference) and g is not reference]
    sized, _ = at_best_rates([g for g in comparable if g.size and g.values(metric)])
    return [
        one_line(_sentence(table, metric, reference, name, line))
        for field in sorted({group.size.field for group in sized if group.size})
        for name, line in plot_lines([group for group in sized if group.size and group.size.field == field]).items()
        if len(line) > 1
    ]


def _sentence(table: Table, metric: str, reference: RunGroup, name: str, line: Sequence[RunGroup]) -> str:
    of = table.verdicts_in(metric)
    rows = {id(group): row for row, group in enumerate(table.rows)}
    verdicts = {id(group): of.of(rows[id(group)], rows[id(reference)]) for group in line}
    whole, field = group_name(table, reference), line[0].size.field if line[0].size else "size"
    known = {key: verdict for key, verdict in verdicts.items() if verdict is not None and verdict.p is not None}
    within = f"smallest {field} whose mean lies within {MARGIN_TEXT} of the gain of {whole}"
    near = f"{within}: {_first(line, [group for group in line if _near(group, reference, metric)])}"
    if not known:
        return f"{name}: {near}. One seed cannot tell whether {metric} differs from that of {whole}."
    alike = [group for group in line if (v := known.get(id(group))) and v.better is not False]
    shown = [group for group in line if (v := known.get(id(group))) and v.equivalent]
    return (
        f"{name}: smallest {field} not told apart from {whole} in {metric}, or better: {_first(line, alike)}; {near} "
        f"(shown by a test: {_first(line, shown)}).{_unseen(metric, [*known.values()])}"
    )


def _first(line: Sequence[RunGroup], chosen: Sequence[RunGroup]) -> str:
    return size_text(chosen[0].size) if chosen else f"none up to {size_text(line[-1].size)}"


def _near(group: RunGroup, reference: RunGroup, metric: str) -> bool:
    """Whether the group's mean gain over the untuned base is at least 95 % of the reference's."""
    bases = [figure.base for figure in reference.figures(metric)]
    if None in bases:
        return False
    base = float(np.mean(np.array(bases, float)))
    own, whole = (gain(metric, float(np.mean(g.values(metric))), base) for g in (group, reference))
    return whole != 0 and own / whole >= 1 - MARGIN


def _unseen(metric: str, verdicts: Sequence[Verdict]) -> str:
    """The largest of the detectable differences: what this study would mostly miss."""
    found = [verdict.detectable for verdict in verdicts if verdict.detectable is not None]
    if not found:
        return ""
    return (
        f" A true difference in {metric} below {short_text(max(found))} would be missed more than once in five studies."
    )
