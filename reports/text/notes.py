"""Notes below every table and beside every plot: counts of runs, how figures were measured, what a table mixes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from reports.records import Collection, Run
from reports.references import Reference, references
from reports.run_groups import RunGroup, settings_of, settings_text, versions_of
from reports.schema import FigureRecord
from reports.tables import Table
from reports.text import variances, verdicts
from reports.text.enough import rank_sentences
from reports.text.format import count_text, join_sorted, mixture_warning, number_text, range_text

REFERENCE_TITLES = {
    "base": "untuned base",
    "floor": "real data against real",
    "reconstruction": "real data through the VAE",
    "ceiling": "real data (ceiling)",
    "shuffled": "captions shuffled",
}


def table_notes(table: Table, part: Collection, metrics: Iterable[str]) -> list[str]:
    """All notes on the table of `part`, the runs of one task; `metrics` are the ones shown."""
    return [
        *rank_sentences(table),
        *counts(part),
        *measured_with(table.rows, metrics),
        *several_evaluations(table.rows, metrics),
        *methods_used(table),
        *variances.sources(table.rows, table.primary_metric),
        *warnings(table.rows, table.metrics),
    ]


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
    """One line per metric that a run has, or of which a failed run has the untuned base's figure alone."""
    lines = []
    for metric in metrics:
        bases = [run.record.base_figures.get(metric) for group in groups for run in group.failed]
        figures = [figure for group in groups for figure in group.figures(metric)] or [*filter(None, bases)]
        lines += [metric_note(metric, figures)] if figures else []
    return lines


def metric_note(metric: str, figures: Sequence[FigureRecord], n: str | None = None) -> str:
    """Direction, unit, n (the figures', or a text), extractor and meaning of a metric."""
    parts = [f"{figures[0].better} is better", unit_text(figures), n or n_text(figures), extractor_text(figures)]
    meaning = f"; {figures[0].meaning}" if figures[0].meaning else ""
    return f"{metric}: {', '.join(filter(None, parts))}{meaning}."


def unit_text(figures: Sequence[FigureRecord]) -> str:
    return join_sorted({figure.unit for figure in figures if figure.unit}, " or ")


def n_text(figures: Sequence[FigureRecord]) -> str:
    numbers = sorted({figure.n for figure in figures if figure.n is not None})
    return f"n={range_text(numbers[0], numbers[-1])}" if numbers else "n not recorded"


def extractor_text(figures: Sequence[FigureRecord]) -> str:
    names = {figure.extractor for figure in figures if figure.extractor}
    return f"measured with {join_sorted(names, ' and ')}" if names else ""


def references_text(groups: Sequence[RunGroup], metric: str) -> str:
    """The reference values of a metric on one line; empty if the records have none."""
    parts = [f"{reference_title(found)} {number_text(found.value)}" for found in references(groups, metric)]
    return f"For comparison, {metric}: {', '.join(parts)}." if parts else ""


def reference_title(reference: Reference) -> str:
    """What the value is, with its evaluation if runs were evaluated in several ways."""
    title = REFERENCE_TITLES[reference.kind]
    return f"{title} ({reference.settings})" if reference.settings else title


def several_evaluations(groups: Sequence[RunGroup], metrics: Iterable[str]) -> list[str]:
    """The reference values of each metric that has several of one kind: one for each evaluation."""
    return [references_text(groups, name) for name in metrics if any(r.settings for r in references(groups, name))]


def methods_used(table: Table) -> list[str]:
    """How the intervals and verdicts in this table were computed."""
    kinds = {mean.how for group in table.rows for metric in table.metrics if (mean := group.mean(metric))}
    lines = [text for kind, text in INTERVALS.items() if kind in kinds]
    if any(figure.bounds for group in table.rows for metric in table.metrics for figure in group.figures(metric)):
        lines.append("Intervals of shares are clipped to 0 to 1.")
    return lines + (verdicts.tests(table, table.reference) if table.verdicts and table.reference else [])


INTERVALS = {
    "t over seeds": "[ ]: 95 % interval of the mean over seeds (Student's t).",
    "t over both seeds": (
        "[ ] of repeated evaluations: 95 % interval of the mean over training and evaluation seeds (Student's t; both "
        "effects crossed)."
    ),
    "items of one run": "( ): a single seed, so a 95 % interval over its items; the noise between seeds is unknown.",
}


def warnings(groups: Sequence[RunGroup], metrics: Iterable[str]) -> list[str]:
    """One sentence for everything that differs between runs but must agree for a fair comparison."""
    runs = [run for group in groups for run in group.finished]
    must_agree = {what: [read(run) for run in runs] for what, read in MUST_AGREE.items()}
    versions = [settings_text(versions_of(group)) or None for group in groups for _ in group.finished]
    must_agree["versions of the base or of the data"] = versions
    lines = [line for what, values in must_agree.items() if (line := mixture_warning(what, values))]
    dirty = sum(bool(run.record.git and run.record.git.dirty) for run in runs)
    if dirty:
        lines.append(f"Warning: {dirty} of {len(runs)} runs were made with uncommitted changes.")
    for metric in metrics:
        lines += _mixed_figures(metric, [figure for group in groups for figure in group.figures(metric)])
    repeated = {group.label: group.repeated for group in groups if group.repeated}
    if repeated:
        count = count_text(sum(map(len, repeated.values())), "older run")
        names = {label: join_sorted(run.folder.name for run in older) for label, older in repeated.items()}
        listed = join_sorted(f"{label} ({folders})" for label, folders in names.items())
        lines.append(f"Left out: {count} with the settings and the seed of another run: {listed}.")
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


def _mixed_figures(metric: str, figures: Sequence[FigureRecord]) -> list[str]:
    lines = [mixture_warning(f"extractors of {metric}", [figure.extractor for figure in figures])]
    lines += [mixture_warning(f"sample counts of {metric}", [figure.n for figure in figures])]
    bases = [figure.base for figure in figures if figure.base is not None]
    if bases and max(bases) - min(bases) > 1e-6 * max(map(abs, bases)):
        lines.append(
            f"Warning: {metric} of the untuned base differs between runs, from {min(bases):g} to {max(bases):g}."
        )
    return [line for line in lines if line]
