"""Notes below every table and beside every plot: counts of runs, how figures were measured, what a table mixes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from reports.records import Collection, Run
from reports.run_groups import RunGroup, settings_of
from reports.schema import REFERENCES, FigureRecord
from reports.statistics import decimals
from reports.tables import Table

REFERENCE_TITLES = {
    "base": "untuned base",
    "floor": "real data against real",
    "reconstruction": "real data through the VAE",
    "ceiling": "real data (ceiling)",
    "shuffled": "captions shuffled",
}


def counts(part: Collection) -> list[str]:
    """The number of runs of each kind, the reasons of failed runs, and every unreadable record."""
    kinds = {
        "finished": part.finished,
        "failed": part.failed,
        "unfinished": part.unfinished,
        "unreadable": part.unreadable,
    }
    lines = ["Runs: " + ", ".join(f"{len(runs)} {kind}" for kind, runs in kinds.items()) + "."]
    reasons = Counter((run.record.reason or "no reason recorded") for run in part.failed)
    lines += [f"Failed ({n}): {reason}" for reason, n in sorted(reasons.items())]
    lines += [f"Unreadable: {path}: {reason}" for path, reason in part.unreadable]
    return lines


def measured_with(groups: Sequence[RunGroup], metrics: Iterable[str]) -> list[str]:
    """One line per metric: direction, unit, n, extractor, meaning."""
    lines = []
    for metric in metrics:
        figures = [figure for group in groups for figure in group.figures(metric)]
        if figures:
            parts = [f"{figures[0].better} is better", unit_text(figures), n_text(figures), extractor_text(figures)]
            meaning = f"; {figures[0].meaning}" if figures[0].meaning else ""
            lines.append(f"{metric}: {', '.join(filter(None, parts))}{meaning}.")
    return lines


def unit_text(figures: Sequence[FigureRecord]) -> str:
    return _join({figure.unit for figure in figures if figure.unit}, " or ")


def n_text(figures: Sequence[FigureRecord]) -> str:
    numbers = sorted({figure.n for figure in figures if figure.n is not None})
    return f"n={numbers[0]}{f' to {numbers[-1]}' if len(numbers) > 1 else ''}" if numbers else "n not recorded"


def extractor_text(figures: Sequence[FigureRecord]) -> str:
    names = {figure.extractor for figure in figures if figure.extractor}
    return f"measured with {_join(names, ' and ')}" if names else ""


def references(groups: Sequence[RunGroup], metric: str) -> dict[str, list[float]]:
    """The reference values of a metric by name: each distinct value in the records, in rising order."""
    figures = [figure for group in groups for figure in group.figures(metric)]
    values = {name: sorted({v for f in figures if (v := getattr(f, name)) is not None}) for name in REFERENCES}
    return {name: distinct for name, distinct in values.items() if distinct}


def references_text(groups: Sequence[RunGroup], metric: str) -> str:
    """The reference values of a metric on one line; empty if the records have none."""
    parts = []
    for name, values in references(groups, metric).items():
        ends = [f"{value:.{decimals(value)}f}" for value in (values[0], values[-1])]
        parts.append(f"{REFERENCE_TITLES[name]} {' to '.join(dict.fromkeys(ends))}")
    return f"For comparison, {metric}: {', '.join(parts)}." if parts else ""


def methods_used(table: Table) -> list[str]:
    """How the intervals and verdicts in this table were computed."""
    kinds = {mean.how for group in table.rows for metric in table.metrics if (mean := group.mean(metric))}
    lines = [text for kind, text in INTERVALS.items() if kind in kinds]
    if table.reference:
        lines.append(
            f"'better' and 'worse' compare with {table.reference.label}: Welch's test over seeds, p below 0.05 after "
            "Holm's correction for all comparisons. 'cannot tell': fewer than two seeds, or seeds without effect."
        )
    return lines


INTERVALS = {
    "t over seeds": "[ ]: 95 % interval of the mean over seeds (Student's t).",
    "bootstrap over seeds": "[ ] with 8 or more seeds: 95 % interval of the mean over seeds (BCa bootstrap).",
    "items of one run": "( ): a single seed, so a 95 % interval over its items; the noise between seeds is unknown.",
}


def warnings(groups: Sequence[RunGroup], metrics: Iterable[str]) -> list[str]:
    """One sentence for everything that differs between runs but must agree for a fair comparison."""
    runs = [run for group in groups for run in group.finished]
    lines = [line for what, read in MUST_AGREE.items() if (line := _mixed(what, [read(run) for run in runs]))]
    dirty = sum(bool(run.record.git and run.record.git.dirty) for run in runs)
    if dirty:
        lines.append(f"Warning: {dirty} of {len(runs)} runs were made with uncommitted changes.")
    for metric in metrics:
        lines += _mixed_figures(metric, [figure for group in groups for figure in group.figures(metric)])
    repeated = {group.label: group.repeated for group in groups if group.repeated}
    if repeated:
        count = sum(map(len, repeated.values()))
        lines.append(
            f"Left out: {count} older {'run' if count == 1 else 'runs'} with the settings and the seed of another run: "
            f"{_join(f'{label} ({_join(run.folder.name for run in runs)})' for label, runs in repeated.items())}."
        )
    return lines


def _commit(run: Run) -> str | None:
    return run.record.git.commit[:12] if run.record.git and run.record.git.commit else None


def _task_settings(run: Run) -> str:
    settings = {name: value for name, value in settings_of(run).items() if name.startswith("task.")}
    return json.dumps(settings, sort_keys=True, default=str)


MUST_AGREE = {
    "commits": _commit,
    "base models": lambda run: run.record.config.task.get("base"),
    "task settings": _task_settings,
    "devices (times and memory are not comparable)": lambda run: run.record.device,
    "sources": lambda run: run.record.source,
}


def _mixed(what: str, values: Sequence[object]) -> str | None:
    kinds = Counter(str(value) if value is not None else "none recorded" for value in values)
    if len(kinds) < 2:
        return None
    shown = f": {_join(f'{kind} ({n})' for kind, n in kinds.items())}" if max(map(len, kinds)) <= 60 else ""
    return f"Warning: this mixes {len(kinds)} {what}{shown}."


def _mixed_figures(metric: str, figures: Sequence[FigureRecord]) -> list[str]:
    lines = [_mixed(f"extractors of {metric}", [figure.extractor for figure in figures])]
    lines += [_mixed(f"sample counts of {metric}", [figure.n for figure in figures])]
    bases = [figure.base for figure in figures if figure.base is not None]
    if bases and max(bases) - min(bases) > 1e-6 * max(map(abs, bases)):
        lines.append(
            f"Warning: {metric} of the untuned base differs between runs, from {min(bases):g} to {max(bases):g}."
        )
    return [line for line in lines if line]


def _join(words: Iterable[str], separator: str = ", ") -> str:
    return separator.join(sorted(words))
