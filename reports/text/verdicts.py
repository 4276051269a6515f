"""Verdicts in words: on one line for plots, and the tests behind them."""

from __future__ import annotations

from reports.run_groups import RunGroup
from reports.tables import Table
from reports.verdicts import MARGIN


def tests(table: Table, reference: RunGroup) -> list[str]:
    """The tests behind the verdicts against `reference`, the correction in use, and what they can find."""
    verdicts, name = [*table.verdicts.values()], group_name(table, reference)
    kinds = {
        "paired by seed, as the groups share seeds, data order and noise": any(v.paired for v in verdicts),
        "Welch's, where seeds or data order differ": not all(v.paired for v in verdicts),
    }
    used = " or ".join(test for test, is_used in kinds.items() if is_used)
    lines = [
        f"'better' and 'worse' compare with {name}: t-test over seeds ({used}), p below 0.05 after Holm's correction "
        f"for {_family(table, reference)}. 'cannot tell': fewer than two seeds, or seeds without effect."
    ]
    if any(v.detectable is not None for v in verdicts):
        lines.append(
            "Detectable difference: the true difference that a study of this size finds with 80 % power at Holm's "
            "level of the comparison."
        )
    if any(v.equivalent for v in verdicts) and table.planned:
        lines.append(
            f"'within {MARGIN:.0%} of gain': the true difference is below {MARGIN:.0%} of the gain of "
            f"{group_name(table, table.planned)} over the untuned base (two one-sided t-tests, p below 0.05 after "
            "Holm's correction)."
        )
    return lines


def _family(table: Table, reference: RunGroup) -> str:
    """The comparisons that are corrected together."""
    if reference is table.planned:
        return f"the comparisons with {group_name(table, reference)}"
    if table.planned is None:
        return "all pairs of groups (no run trains all weights, so no reference was planned)"
    planned = group_name(table, table.planned)
    return f"all pairs of groups without {planned}; a pair with {planned} is corrected for the comparisons with it"


def group_name(table: Table, group: RunGroup) -> str:
    """The group's label, with its settings if another group of the table has the same label."""
    unique = sum(other.label == group.label for other in table.rows) == 1
    return group.label if unique or not group.settings else f"{group.label} ({group.settings_text})"


def on_one_line(table: Table, metric: str) -> str:
    """The verdicts on all groups in one metric on one line; empty if there are none."""
    rows = {row: verdict for (name, row), verdict in table.verdicts.items() if name == metric}
    if not rows or table.reference is None:
        return ""
    parts = [f"{group_name(table, table.rows[row])} {verdict.text_with_p}" for row, verdict in sorted(rows.items())]
    return f"{metric} against {group_name(table, table.reference)}: {'; '.join(parts)}."
