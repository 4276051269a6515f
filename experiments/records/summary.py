"""The table that a run ends with in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

BESIDE = ("floor", "reconstruction", "ceiling", "shuffled")


def show(record: dict[str, Any], folder: Path) -> None:
    console = Console()
    if record["status"] != "finished":
        console.print(f"[bold red]failed[/]: {record['reason']}\n{folder}", highlight=False)
        return
    console.print(_metrics(record))
    for line in _costs(record):
        console.print(line, highlight=False)
    console.print(f"record: {folder / 'result.json'}", highlight=False, soft_wrap=True)
    if (folder / "samples").is_dir():
        console.print(f"samples: {folder / 'samples'}", highlight=False, soft_wrap=True)


def _metrics(record: dict[str, Any]) -> Table:
    metrics = record["metrics"]
    size = record["size"]
    title = f"{record['method']} on {record['task']}" + (f", {size['field']} {size['value']}" if size else "")
    table = Table(title=f"{title}, seed {record['seed']}", title_justify="left")
    table.add_column("figure", no_wrap=True)
    for name in ("base", "tuned", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("real data, n")
    for name, figure in metrics.items():
        if _is_part(name, metrics):
            continue
        interval = f"{_number(figure.get('low'))} .. {_number(figure.get('high'))}" if "low" in figure else ""
        others = [f"{column} {_number(figure[column])}" for column in BESIDE if column in figure]
        arrow = {"lower": "↓", "higher": "↑"}[figure["better"]]
        beside = ", ".join([*others, f"n {figure['n']}"])
        table.add_row(f"{name} {arrow}", _number(figure.get("base")), _number(figure["value"]), interval, beside)
    extractors = sorted({figure["extractor"] for figure in metrics.values()})
    table.caption = "↓ lower is better, ↑ higher; measured with: " + "; ".join(extractors)
    table.caption_justify = "left"
    return table


def _is_part(name: str, metrics: dict[str, Any]) -> bool:
    """Whether a figure is one part of another (alignment_eyes of alignment): those stay in the record."""
    return any(name.startswith(f"{whole}_") for whole in metrics)


def _costs(record: dict[str, Any]) -> list[str]:
    parameters, seconds = record["parameters"], record["seconds"]
    share = 100 * parameters["trainable"] / parameters["total"]
    return [
        f"trained {parameters['trainable']:,} of {parameters['total']:,} parameters ({share:.2f} %), "
        f"adapter file {record['adapter_bytes'] / 1e6:.2f} MB, "
        f"peak memory {record['memory']['peak_bytes'] / 1e9:.2f} GB ({record['memory']['how']})",
        f"a step: {record['flops']['total'] / 1e9:,.1f} GFLOP, {_rate(record['throughput'])}, "
        f"{record['communication']['predicted_bytes'] / 1e6:.2f} MB of gradients to send where several processes train"
        + _positions(record["facts"]),
        f"seconds: set-up {seconds['setup']:.0f}, training {seconds['train']:.0f} "
        f"({seconds['step_median']:.3f} a step), evaluation {seconds['evaluate']:.0f}",
    ]


def _rate(throughput: dict[str, Any]) -> str:
    unit = "tokens" if throughput["tokens_per_second"] is not None else "samples"
    return f"{_number(throughput[f'{unit}_per_second'])} {unit} a second"


def _positions(facts: dict[str, Any]) -> str:
    """What the method leaves of the model's positions, where the model has a number of them."""
    return f"; {facts['positions_left']:,} positions left for input" if facts.get("positions_left") else ""


def _number(value: float | None) -> str:
    """Three significant digits, without an exponent where it can be read without one."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
