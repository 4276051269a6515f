"""PSCP, one score from quality and three costs (PEFT Soft Score Penalties; "Cost" in later versions).

PSCP = P (1 + M_p / C_p)^-b_p (1 + M_f / C_f)^-b_f (1 + M_m / C_m)^-b_m, Belanec et al. 2025, PEFT-Bench, arXiv
2511.21285: P is the performance in points, M_p the trained parameters, M_f the operations that a method adds to
inference, M_m the memory of training. The scales and exponents are those of PEFT-Factory's script
scripts/peftfactory/cal_psqp.py, chosen for language models of 8 billion parameters on a GPU of 94 GB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from reports.errors import ReportError
from reports.run_groups import RunGroup
from reports.tables import Table
from reports.text.format import amount_text, join_sorted, number_text, one_line, tabulated

COSTS = ("parameters", "flops", "memory")
UNITS = {"parameters": "", "flops": "FLOP", "memory": "B"}


@dataclass(frozen=True)
class Penalties:
    """Scales C and exponents b, each of trained parameters, extra operations of inference and memory of training."""

    scales: tuple[float, float, float] = (5e8, 10e12, 94e9)  # parameters, FLOP, bytes
    exponents: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for name, numbers, least in (("scales", self.scales, "above 0"), ("exponents", self.exponents, "at least 0")):
            bad = [n for n in numbers if not math.isfinite(n) or n < 0 or (n == 0 and name == "scales")]
            if len(numbers) != len(COSTS) or bad:
                raise ReportError(f"expected three --{name}, {least}, for {', '.join(COSTS)}; not {numbers}")

    def factors(self, costs: Mapping[str, float]) -> dict[str, float]:
        """(1 + M / C)^-b of each cost: 1 is no penalty."""
        settings = zip(COSTS, self.scales, self.exponents, strict=True)
        return {name: (1 + costs[name] / scale) ** -exponent for name, scale, exponent in settings}

    @property
    def text(self) -> str:
        settings = zip(COSTS, self.scales, self.exponents, strict=True)
        return ", ".join(f"{name}: scale {amount_text(c, UNITS[name])}, exponent {b:g}" for name, c, b in settings)


@dataclass(frozen=True)
class Score:
    group: RunGroup
    performance: float
    costs: Mapping[str, float]
    factors: Mapping[str, float]

    @property
    def value(self) -> float:
        return self.performance * math.prod(self.factors.values())


def scores(table: Table, penalties: Penalties, metric: str | None = None) -> list[Score]:
    """The score of every group that recorded its parameters and memory, the best first.

    Raises ReportError for a metric of which less is better, and if no group has the costs.
    """
    name = metric or table.primary_metric
    if name is None or table.lower_is_better[name]:
        suitable = join_sorted(other for other in table.lower_is_better if not table.lower_is_better[other])
        raise ReportError(
            f"PSCP multiplies a performance, of which more is better, and less of '{name}' is: "
            f"{f'expected one of {suitable}' if suitable else f'{table.task!r} has no other metric'}"
        )
    whole = _forward(table.planned) if table.planned else None
    found = []
    for group in table.rows:
        mean, parameters, memory = group.mean(name), group.cost("parameters"), group.cost("memory_bytes")
        if mean is None or parameters is None or memory is None:
            continue
        forward = _forward(group)
        added = max(0.0, forward - whole) if forward is not None and whole is not None else 0.0
        costs = {"parameters": parameters, "flops": added, "memory": memory}
        points = mean.value * (100 if group.figures(name)[0].unit == "share" else 1)
        found.append(Score(group, points, costs, penalties.factors(costs)))
    if not found:
        raise ReportError(f"no finished run of '{table.task}' recorded {name}, trained parameters and peak memory")
    return sorted(found, key=lambda score: -score.value)


def _forward(group: RunGroup) -> float | None:
    """Operations of a step's forward pass."""
    values = [run.record.flops.forward for run in group.finished if run.record.flops]
    return sum(values) / len(values) if values else None


def pscp_notes(table: Table, metric: str, penalties: Penalties) -> list[str]:
    added = (
        f"operations added to inference: forward pass of a training step minus that of {table.planned.label}"
        if table.planned and _forward(table.planned) is not None
        else "operations added to inference: taken as 0, as for a merged adapter, because no run trains all weights"
    )
    return [
        f"PSCP = {metric} x product of (1 + cost / scale)^-exponent (Belanec et al. 2025, arXiv 2511.21285); "
        f"{penalties.text}; {added}. Memory: peak while training, as recorded.",
    ]


def render_scores(table: Table, penalties: Penalties, form: str) -> str:
    metric = table.metrics[0]
    rows = [["method", "size", "settings", "PSCP", metric, *(f"{name}\nfactor".replace("\n", " ") for name in COSTS)]]
    for score in scores(table, penalties, metric):
        group = score.group
        size = group.label.removeprefix(group.method).strip()
        factors = [f"{score.factors[name]:.3f}" for name in COSTS]
        texts = [group.method, size, group.settings_text, number_text(score.value), number_text(score.performance)]
        rows.append([one_line(text) for text in (*texts, *factors)])
    align = ["left", "right", "left", *["right"] * 5]
    return tabulated(rows, align, form, pscp_notes(table, metric, penalties))
