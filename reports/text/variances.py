"""The sources of a metric's variance in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from reports.run_groups import RunGroup
from reports.statistics.components import Components
from reports.text.format import short_text


def sources(groups: Sequence[RunGroup], metric: str | None) -> list[str]:
    """The sources of the variance of each group that was evaluated under several evaluation seeds."""
    found = [
        (f"{group.label} ({group.settings_text})" if group.settings else group.label, parts)
        for group in groups
        if metric and (parts := group.components(metric))
    ]
    lines = [f"Variance of one evaluation of {metric}, {label}: {_variances_text(parts)}." for label, parts in found]
    return lines + ([VARIANCES] if found else [])


VARIANCES = (
    "Variances: two-way random-effects analysis (ANOVA estimates, negative ones shown as 0); items: from the standard "
    "error over items, beyond the evaluation seed's part."
)


def _variances_text(parts: Components) -> str:
    known = [value for value in asdict(parts).values() if value is not None]
    texts = []
    for name, value in asdict(parts).items():
        title = name if name == "items" else f"{name} seed"
        share = f", {100 * value / sum(known):.0f} %" if value is not None and len(known) == 3 and sum(known) else ""
        texts.append(
            f"{title} " + ("unknown" if value is None else f"{short_text(value)} (sd {short_text(value**0.5)}{share})")
        )
    return ", ".join(texts)
