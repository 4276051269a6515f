"""Verdicts in words: on one line for plots, and the tests behind them."""

from __future__ import annotations

from reports.run_groups import RunGroup, distinct_label
from reports.statistics.verdicts import MARGIN_TEXT, Verdict
from reports.tables import Table
from reports.text.format import range_text, short_text

MOST_NAMED = 8  # groups in the notes of a plot
TESTS = {
    True: "paired t-test (the groups share seeds, data order and noise)",
    False: "Welch's t-test (seeds or data order differ)",
}


def tests(table: Table, reference: RunGroup) -> list[str]:
    """The tests behind the verdicts against `reference`, the correction in use, and what they can find."""
    verdicts = [verdict for verdict in table.verdicts.values() if verdict.difference is not None]
    used = " or ".join(text for paired, text in TESTS.items() if paired in [v.paired for v in verdicts]) or "t-test"
    lines = [
        f"'better' and 'worse' compare with {group_name(table, reference)}: {used} over seeds, p below 0.05 after "
        f"{correction(table, reference)}. 'cannot tell': fewer than two seeds, or seeds without "
        "effect."
    ]
    primary = [v.detectable for (metric, _), v in sorted(table.verdicts.items()) if metric == table.primary_metric]
    if detectable := sorted(number for number in primary if number is not None):
        shown = range_text(*(short_text(number) for number in (detectable[0], detectable[-1])))
        lines.append(
            f"Detectable difference in {table.primary_metric}, {shown}: the true difference that a study of this size "
            "finds with 80 % power at Holm's level of the comparison."
        )
    if any(v.equivalent for v in verdicts) and table.planned:
        lines.append(
            f"'within {MARGIN_TEXT}': the true difference is below {MARGIN_TEXT} of the gain of "
            f"{group_name(table, table.planned)} over the untuned base (two one-sided t-tests, p below 0.05 after "
            "Holm's correction)."
        )
    return lines


def correction(table: Table, reference: RunGroup) -> str:
    """The correction of comparisons with `reference`, and for which others."""
    return f"Holm's correction for {_family(table, reference)}"


def _family(table: Table, reference: RunGroup) -> str:
    """The comparisons that are corrected together."""
    if reference is table.planned:
        return f"the comparisons with {group_name(table, reference)}"
    if table.planned is None:
        return "all pairs of groups (no run trains all weights, so no reference was planned)"
    planned = group_name(table, table.planned)
    return f"all pairs of groups without {planned}; a pair with {planned} is corrected for the comparisons with it"


def with_detectable(verdict: Verdict) -> str:
    """The verdict with its p-value, equivalence and detectable difference."""
    found = verdict.detectable
    return verdict.text_with_p + ("" if found is None else f", detectable difference {short_text(found)}")


def group_name(table: Table, group: RunGroup) -> str:
    """The group's label, with its settings if another group of the table has the same label."""
    return distinct_label(group, table.rows)


def on_one_line(table: Table, metric: str) -> str:
    """The verdicts on the first groups in one metric, and how many more there are; empty if there are none."""
    rows = {row: verdict for (name, row), verdict in table.verdicts.items() if name == metric}
    if not rows or table.reference is None:
        return ""
    parts = [
        f"{group_name(table, table.rows[row])} {with_detectable(each)}"
        for row, each in sorted(rows.items())[:MOST_NAMED]
    ]
    parts += [f"{len(rows) - MOST_NAMED} more in the table"] if len(rows) > MOST_NAMED else []
    heading = f"{metric} against {group_name(table, table.reference)} ({correction(table, table.reference)})"
    return f"{heading}: {'; '.join(parts)}."
