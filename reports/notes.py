"""What stands below every table and beside every plot: what was counted, measured with what, and what is mixed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from reports.records import Collection, Run
from reports.run_groups import RunGroup
from reports.schema import REFERENCES, Figure
from reports.statistics import decimals

if TYPE_CHECKING:
    from reports.tables import Table

REFERENCE_TITLES = {
    "base": "untuned base",
    "floor": "real data against real",
    "reconstruction": "real data through the VAE",
    "ceiling": "real data (ceiling)",
    "shuffled": "captions shuffled",
}


def counts(part: Collection) -> list[str]:
    """How many runs there are of each kind, and by name those that no row can stand for."""
    kinds = {
        "finished": part.finished,
        "failed": part.failed,
        "unfinished": part.unfinished,
        "unreadable": part.unreadable,
    }
    lines = ["Runs: " + ", ".join(f"{len(runs)} {kind}" for kind, runs in kinds.items()) + "."]
    reasons = Counter((run.record.reason or "no reason recorded") for run in part.failed)
    lines += [f"Failed ({n}): {reason}" for reason, n in sorted(reasons.items())]
    lines += [f"Unreadable: {path}: {why}" for path, why in part.unreadable]
    return lines


def measured_with(arms: Sequence[RunGroup], metrics: Iterable[str]) -> list[str]:
    """A line a metric: direction, unit, n, extractor, meaning."""
    lines = []
    for metric in metrics:
        figures = [figure for arm in arms for figure in arm.figures(metric)]
        if figures:
            parts = [f"{figures[0].better} is better", unit_text(figures), n_text(figures), extractor_text(figures)]
            lines.append(f"{metric}: " + ", ".join(filter(None, parts)) + "." + f" {figures[0].meaning}".rstrip())
    return lines


def unit_text(figures: Sequence[Figure]) -> str:
    return _joined({figure.unit for figure in figures if figure.unit}, " or ")


def n_text(figures: Sequence[Figure]) -> str:
    numbers = sorted({figure.n for figure in figures if figure.n is not None})
    return f"n={numbers[0]}{f' to {numbers[-1]}' if len(numbers) > 1 else ''}" if numbers else "n not recorded"


def extractor_text(figures: Sequence[Figure]) -> str:
    names = {figure.extractor for figure in figures if figure.extractor}
    return f"measured with {_joined(names, ' and ')}" if names else ""


def references(arms: Sequence[RunGroup], metric: str) -> dict[str, list[float]]:
    """What the metric may be held against: by name, the different values that the records give."""
    figures = [figure for arm in arms for figure in arm.figures(metric)]
    found = {name: sorted({v for f in figures if (v := getattr(f, name)) is not None}) for name in REFERENCES}
    return {name: values for name, values in found.items() if values}


def held_against(arms: Sequence[RunGroup], metric: str) -> str:
    """What the metric may be held against, in a line; empty where the records give nothing."""
    parts = []
    for name, values in references(arms, metric).items():
        ends = [f"{value:.{decimals(value)}f}" for value in (values[0], values[-1])]
        parts.append(f"{REFERENCE_TITLES[name]} {' to '.join(dict.fromkeys(ends))}")
    return f"Beside {metric}: {', '.join(parts)}." if parts else ""


def how(table: Table) -> list[str]:
    """How intervals and verdicts of this table were made; only what occurs in it."""
    kinds = {mean.how for arm in table.rows for metric in table.metrics if (mean := arm.mean(metric))}
    lines = [text for kind, text in INTERVALS.items() if kind in kinds]
    if table.reference:
        lines.append(
            f"Differences to {table.reference.label} are called so only where Welch's test over seeds stays below 0.05 "
            "after Holm's correction over the arms compared; 'cannot tell' needs at least two seeds in both arms."
        )
    return lines


INTERVALS = {
    "t over seeds": "[ ]: 95 % interval of the mean over seeds (Student's t).",
    "bootstrap over seeds": "[ ] from 8 seeds on: 95 % interval of the mean over seeds (BCa bootstrap).",
    "items of one run": "( ): one seed only, so the 95 % interval over its items; the noise between seeds is unknown.",
}


def warnings(arms: Sequence[RunGroup], metrics: Iterable[str]) -> list[str]:
    """A sentence for everything that is mixed though a fair comparison needs it to be one."""
    runs = [run for arm in arms for run in arm.finished]
    lines = [line for what, read in MIXED.items() if (line := _mixed(what, [read(run) for run in runs]))]
    dirty = sum(bool(run.record.git and run.record.git.dirty) for run in runs)
    if dirty:
        lines.append(f"Warning: {dirty} of {len(runs)} runs were made with uncommitted changes.")
    for metric in metrics:
        lines += _mixed_figures(metric, [figure for arm in arms for figure in arm.figures(metric)])
    doubled = [arm for arm in arms if len({run.record.seed for run in arm.finished}) < len(arm.finished)]
    if doubled:
        lines.append(
            f"Warning: a seed is counted twice in {_joined([arm.label for arm in doubled])}: its interval is too short."
        )
    return lines


def _commit(run: Run) -> str | None:
    return run.record.git.commit[:12] if run.record.git and run.record.git.commit else None


def _task_setting(run: Run) -> str:
    return json.dumps({k: v for k, v in run.record.config.task.items() if k != "task"}, sort_keys=True, default=str)


MIXED = {
    "commits": _commit,
    "base models": lambda run: run.record.config.task.get("base"),
    "task settings": _task_setting,
    "devices (times and memory do not compare)": lambda run: run.record.device,
    "sources": lambda run: run.record.source,
}


def _mixed(what: str, values: Sequence[object]) -> str | None:
    kinds = Counter(str(value) if value is not None else "none recorded" for value in values)
    if len(kinds) < 2:
        return None
    shown = f": {_joined(f'{kind} ({n})' for kind, n in kinds.items())}" if max(map(len, kinds)) <= 60 else ""
    return f"Warning: this mixes {len(kinds)} {what}{shown}."


def _mixed_figures(metric: str, figures: Sequence[Figure]) -> list[str]:
    lines = [_mixed(f"extractors of {metric}", [figure.extractor for figure in figures])]
    lines += [_mixed(f"sample counts of {metric}", [figure.n for figure in figures])]
    bases = [figure.base for figure in figures if figure.base is not None]
    if bases and max(bases) - min(bases) > 1e-6 * max(map(abs, bases)):
        lines.append(
            f"Warning: {metric} of the untuned base differs between runs, from {min(bases):g} to {max(bases):g}."
        )
    return [line for line in lines if line]


def _joined(words: Iterable[str], last: str = ", ") -> str:
    return last.join(sorted(words))
