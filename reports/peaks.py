"""For each method and size, the value of one setting at which a metric is best: a capacity, a best length or rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from reports.errors import ReportError
from reports.run_groups import RunGroup, by_method, size_text, value_text
from reports.schema import Size
from reports.sweeps.axes import facets, is_number, known_setting, settings_with_size, varied
from reports.tables import Table
from reports.text.format import one_line
from reports.text.table import mean_text

COLUMNS = ("method", "size", "settings", "trained", "best", "at", "next lower", "next higher", "inside")


@dataclass(frozen=True)
class Peak:
    """Groups that differ in one setting, in its order, with the index of the best of them."""

    setting: str
    groups: tuple[RunGroup, ...]
    size: Size | None  # None also if the size is the setting
    settings: str  # the others that tell it apart
    best: int

    @property
    def at_an_end(self) -> str | None:
        """The end of the setting's range at which the best group lies; None if both neighbours are worse."""
        if len(self.groups) == 1:
            return "only"
        return {0: "smallest", len(self.groups) - 1: "largest"}.get(self.best)


def peaks(table: Table, setting: str, metric: str) -> list[Peak]:
    """The peak of each method, size and other settings. Raises ReportError if the runs do not differ in the setting."""
    measured = [group for group in by_method(table.rows) if group.mean(metric) is not None]
    name = known_setting(setting, table.task, varied(measured))
    for value in varied(measured)[name]:
        if not is_number(value):
            raise ReportError(f"'{name}' has the value {value_text(value)}: expected a setting with numbers")
    return [
        Peak(name, groups, facet.size, facet.settings, _best(table, groups, metric))
        for facet in facets(measured, [name])
        for groups in [tuple(sorted(facet.groups, key=lambda group: settings_with_size(group)[name]))]
    ]


def _best(table: Table, groups: Sequence[RunGroup], metric: str) -> int:
    sign = -1 if table.lower_is_better[metric] else 1
    values = [mean.value * sign for group in groups if (mean := group.mean(metric)) is not None]
    return values.index(max(values))


def render(table: Table, setting: str, metric: str, style: str = "simple") -> str:
    """One row per peak, and what it means that a peak lies at an end."""
    found = peaks(table, setting, metric)
    rows = [[one_line(cell) for cell in _cells(peak, metric)] for peak in found]
    shown = [i for i, title in enumerate(COLUMNS) if title != "settings" or any(row[i] for row in rows)]
    align = ["left" if COLUMNS[i] in ("method", "settings", "inside") else "right" for i in shown]
    text = tabulate(
        [[row[i] for i in shown] for row in rows],
        [COLUMNS[i] for i in shown],
        tablefmt=style,
        disable_numparse=True,
        colalign=align,
    )
    direction = "lowest" if table.lower_is_better[metric] else "highest"
    notes = [
        f"{table.task}: the {direction} mean of {metric} over {setting}, with its interval over seeds. The "
        "best of several means is biased towards the better side, the more the larger the noise between seeds.",
        *(["Not inside: a better value may lie beyond the end, so the figure is a bound."] if _any_open(found) else []),
    ]
    return "\n".join([text, "", *notes])


def _any_open(found: Sequence[Peak]) -> bool:
    return any(peak.at_an_end for peak in found)


def _cells(peak: Peak, metric: str) -> list[str]:
    group = peak.groups[peak.best]
    beside = [
        mean_text(peak.groups[i].mean(metric)) if 0 <= i < len(peak.groups) else ""
        for i in (peak.best - 1, peak.best + 1)
    ]
    trained = group.cost("parameters")
    return [
        group.method,
        size_text(peak.size),
        peak.settings,
        "" if trained is None else f"{trained:,.0f}",
        mean_text(group.mean(metric)),
        value_text(settings_with_size(group)[peak.setting]),
        *beside,
        f"no, the {peak.at_an_end}" if peak.at_an_end else "yes",
    ]
