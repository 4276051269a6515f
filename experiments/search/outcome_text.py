"""The outcome of an intrinsic-dimension search as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFINITIONS = {
    "gain": "gain: from the untuned base on; the d90 of Aghajanyan et al. 2020 is another figure (--of performance)",
    "performance": "performance: the value of the metric; with full fine-tuning's, the d90 of Aghajanyan et al. 2020",
}


def outcome_text(outcome: Mapping[str, Any]) -> str:
    """One line per method variant, and one for each of its seeds."""
    metric, share = outcome["metric"], f"{100 * outcome['threshold']:g} %"
    figure = next(seed["goal"] for seed in outcome["seeds"] if "target" in seed)
    lines = [
        f"{outcome['task']}: the smallest size that reaches {share} of the {outcome['of']} of {outcome['goal']} in "
        f"{metric} ({outcome['better']} is better, n={figure['n']}, {figure['extractor']})",
        DEFINITIONS[outcome["of"]],
    ]
    lines += [f"left out: {seed['reason']}" for seed in outcome["seeds"] if "reason" in seed]
    for curve in outcome["curves"]:
        lines.append(f"{curve['name']}: {curve['field']} {_interval(curve)}; {curve['how']}, n={curve['n']} seeds")
        lines.append(f"  {curve['rates']}")
        lines += [f"  seed {seed['seed']}: {_crossing(seed)}{_shape(seed)}" for seed in curve["seeds"]]
    return "\n".join(lines)


def _interval(curve: Mapping[str, Any]) -> str:
    """The size with its interval; an end outside the search range shows as that end of the range, open."""
    smallest, largest = curve["range"]
    low = f"at most {smallest:,}" if curve["low"] is None else _number(curve["low"])
    high = f"above {largest:,}" if curve["high"] is None else _number(curve["high"])
    if curve["above"] == curve["n"] or curve["at_or_below"] == curve["n"]:
        return f"not reached up to {largest:,}" if curve["above"] else low
    outside = high if 2 * curve["above"] > curve["n"] else low if 2 * curve["at_or_below"] > curve["n"] else "unknown"
    return f"{_number(curve['value']) or outside} [{low}, {high}]"


def _crossing(seed: Mapping[str, Any]) -> str:
    if seed["reaching"] is None:
        return f"not reached up to {seed['below']:,}"
    if seed["below"] is None:
        return f"at or below {seed['reaching']:,}: reached at the lower end of the range searched"
    return f"{_number(seed['crossing'])}, between {seed['below']:,} (not reached) and {seed['reaching']:,} (reached)"


def _shape(seed: Mapping[str, Any]) -> str:
    return f"; {seed['shape']}" if seed.get("shape") else ""


def _number(value: float | None) -> str:
    """Three significant digits; empty for None."""
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
