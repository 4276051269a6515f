"""The table and the costs that a run prints when it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import stdev
from typing import Any

from rich.console import Console
from rich.table import Table

REFERENCES = ("floor", "reconstruction", "ceiling", "shuffled")


def show(record: Mapping[str, Any], folder: Path) -> None:
    """Print a run's figures and costs, or the reason of its failure, and where its files are."""
    console = Console()
    if record["status"] != "finished":
        console.print(f"[bold red]failed[/]: {record['reason']}\n{folder}", highlight=False)
        for line in _untuned(record.get("base_figures", {})):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        return
    console.print(_figures(record))
    for line in _definitions(record["metrics"]):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for line in _not_measured(record):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for line in _costs(record):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"record: {folder / 'result.json'}", highlight=False, soft_wrap=True)
    if (folder / "samples").is_dir():
        console.print(f"samples: {folder / 'samples'}", highlight=False, soft_wrap=True)


def _figures(record: Mapping[str, Any]) -> Table:
    figures = record["metrics"]
    size = record["size"]
    title = f"{record['method']} on {record['task']}" + (f", {size['field']} {size['value']}" if size else "")
    seeds = max((len(figure.get("evaluation", ())) for figure in figures.values()), default=0)
    title += f", seed {record['seed']}" + (f", mean of {seeds} evaluation seeds" if seeds else "")
    table = Table(title=title, title_justify="left")
    table.add_column("figure", no_wrap=True)
    for name in ("base", "tuned", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("real data, n")
    for name, figure in figures.items():
        if _is_part(name, figures):
            continue
        interval = f"{_number(figure.get('low'))} .. {_number(figure.get('high'))}" if "low" in figure else ""
        references = [f"{column} {_number(figure[column])}" for column in REFERENCES if column in figure]
        arrow = {"lower": "↓", "higher": "↑"}[figure["better"]]
        last = ", ".join([*references, f"n {figure['n']}", *_evaluation_noise(figure)])
        table.add_row(f"{name} {arrow}", _number(figure.get("base")), _number(figure["value"]), interval, last)
    extractors = sorted({figure["extractor"] for figure in figures.values()})
    table.caption = "↓ lower is better, ↑ higher is better; measured with: " + "; ".join(extractors)
    table.caption_justify = "left"
    return table


def _evaluation_noise(figure: Mapping[str, Any]) -> Iterator[str]:
    """The standard deviation between evaluation seeds, if there are several."""
    if "evaluation" in figure:
        yield f"evaluation sd {_number(stdev(figure['evaluation']))}"


def _untuned(figures: Mapping[str, Any]) -> Iterator[str]:
    """The untuned base's figures of a run that failed later, on one line; none if they were not measured."""
    parts = [
        f"{name} {_number(figure['value'])} (n {figure['n']}, {figure['extractor']})"
        for name, figure in figures.items()
        if not _is_part(name, figures)
    ]
    if parts:
        yield f"untuned base: {', '.join(parts)}"


def _definitions(figures: Mapping[str, Any]) -> Iterator[str]:
    """What each figure of the table is, in which unit."""
    for name, figure in figures.items():
        if not _is_part(name, figures):
            yield f"{name}: {figure['meaning']}" + (f" ({figure['unit']})" if figure["unit"] else "")


def _not_measured(record: Mapping[str, Any]) -> Iterator[str]:
    """One line with the metrics that have no figure, by reason; none if all have one."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in record["facts"].get("not_measured", {}).items():
        by_reason.setdefault(reason, []).append(name)
    if by_reason:
        parts = [f"{', '.join(names)} ({reason})" for reason, names in by_reason.items()]
        yield f"not measured: {'; '.join(parts)}"


def _is_part(name: str, figures: Mapping[str, Any]) -> bool:
    """Whether a figure is part of another one (alignment_eyes of alignment), which the table leaves out.

    A part has the unit of the whole, and measures the same.
    """
    wholes = [figure for whole, figure in figures.items() if name.startswith(f"{whole}_")]
    return any(whole["unit"] == figures[name]["unit"] for whole in wholes)


def _costs(record: Mapping[str, Any]) -> Iterator[str]:
    parameters, seconds = record["parameters"], record["seconds"]
    share = 100 * parameters["trainable"] / parameters["total"]
    adapter = (
        f"{parameters['trainable']:,} of {parameters['total']:,} parameters ({share:.2f} %), "
        f"adapter file {record['adapter_bytes'] / 1e6:.2f} MB"
    )
    times = f"seconds: setup {seconds['setup']:.0f}, "
    if record["training"]["steps"] == 0:
        yield f"not trained (0 steps): {adapter}{_positions(record['facts'])}"
        yield f"{times}evaluation {seconds['evaluate']:.0f}"
        return
    yield f"trained {adapter}"
    yield from _memory(record["memory"])
    yield (
        f"per step: {record['flops']['total'] / 1e9:,.1f} GFLOP, {_rate(record['throughput'])}, "
        f"{record['communication']['predicted_bytes'] / 1e6:.2f} MB of gradients between processes"
        + _positions(record["facts"])
    )
    curve = f"evaluations during it {seconds['curve']:.0f}, " if "curve" in seconds else ""
    yield (
        f"{times}training {seconds['train']:.0f} (steps, validation and checkpoints), {curve}evaluation "
        f"{seconds['evaluate']:.0f}; a step alone takes {seconds['step_median']:.3f} (median)"
    )
    yield from _best(record["training"])


def _best(training: Mapping[str, Any]) -> Iterator[str]:
    """Where validation loss and, along the curve, the primary metric were best."""
    for name, best in training.get("best", {}).items():
        n = f" (n={best['n']})" if best.get("n") is not None else ""
        yield f"best {name.replace('_', ' ')} at step {best['step']} of {training['steps']}: {best['value']:.4g}{n}"


def _memory(memory: Mapping[str, Any]) -> Iterator[str]:
    """The two peaks, each with its definition: the tensors of a step, and the whole process or allocator."""
    categories = memory.get("categories")
    if categories:
        parts = ", ".join(f"{name} {size / 1e6:,.1f}" for name, size in categories.items())
        yield f"memory of a step's tensors at their peak: {sum(categories.values()) / 1e6:,.1f} MB ({parts})"
    parts = [f"{memory['peak_bytes'] / 1e6:,.1f} MB ({memory['how']})"]
    if "evaluation" in memory:
        parts.append(f"{memory['evaluation']['peak_bytes'] / 1e6:,.1f} MB ({memory['evaluation']['how']})")
    yield f"memory in all: {', '.join(parts)}"


def _rate(throughput: Mapping[str, Any]) -> str:
    unit = "tokens" if throughput["tokens_per_second"] is not None else "samples"
    return f"{_number(throughput[f'{unit}_per_second'])} {unit}/s"


def _positions(facts: Mapping[str, Any]) -> str:
    """The model's positions that the method leaves for input, if the model has a limit."""
    return f"; {facts['positions_left']:,} positions left for input" if facts.get("positions_left") else ""


def _number(value: float | None) -> str:
    """Three significant digits, without an exponent if it is readable without one."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
