"""Will it fit? Predict a training step's memory before renting a GPU: `python -m experiments.plan METHOD TASK`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.cli.errors import command
from experiments.cli.parser import parse
from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.planning.memory_plan import CARDS, GIB, Plan, PlanSettings, largest_batches, plan


@dataclass(frozen=True)
class PlanOptions(PlanSettings):
    """Predict the memory of a training step and the GPUs that it fits; needs no weights, no data and no GPU.

    For example: python -m experiments.plan lora sd-pokemon --task.base sd-2-1 --task.resolution 512
    """

    grid: tuple[str, ...] | None = None
    """Vary settings: the adapter's size (rank, ...), the input size (resolution, max_length), batch_size,
    mixed_precision, gradient_checkpointing. With or without values: --grid rank=1,4,16 batch_size=1,8
    gradient_checkpointing; --grid alone varies all of them."""
    output: Path = Path("plan.svg")
    """Plot of the grid (.svg, .png or .pdf); the table is written beside it as .csv."""


def main() -> None:
    config, options = parse(PlanOptions, sys.argv[1:], "python -m experiments.plan")
    if options.grid is not None:
        show_grid(config.resolved(), options)
        return
    print("predicting a training step, then the largest batch for each GPU (about a minute)", file=sys.stderr)
    result = plan(config, options)
    print(describe_plan(result), flush=True)
    print(describe_cards(result, largest_batches(result)))


def show_grid(config: RunConfig, options: PlanOptions) -> None:
    """Print the table; write it as CSV and as a plot. Raises UsageError if the files cannot be written."""
    from tabulate import tabulate

    from experiments.planning.grid import grid_axes, parse_axes, plan_grid
    from experiments.planning.grid_plot import FORMATS, plot_grid

    if options.output.suffix not in FORMATS:
        raise UsageError(f"--output '{options.output}' must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    axes = grid_axes(config)
    varied = parse_axes(options.grid or (), axes)
    table = plan_grid(config, options, axes, varied)
    print(tabulate(table.to_dict("list"), headers="keys", floatfmt=".2f"))
    print("memory in GiB; `needed` is the peak plus the allowances --context and --fragmentation")
    csv = options.output.with_suffix(".csv")
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(csv, index=False)
        plot_grid(table, list(varied), f"{config.adapter.name} on {config.task.name}", options.output)
    except OSError as error:
        raise UsageError(f"--output '{options.output}' cannot be written ({error.strerror})") from None
    print(f"wrote {options.output} and {csv}")


def describe_plan(result: Plan) -> str:
    """Bytes by category at the peak, and what the plan assumes."""
    from tabulate import tabulate

    prediction = result.prediction
    sizes = [
        *prediction.categories.items(),
        *((f"other frozen model: {name}", size) for name, size in prediction.frozen_parts.items()),
        ("peak of a training step", prediction.peak),
    ]
    rows = [(name, f"{size:,}", f"{size / GIB:.2f}") for name, size in sizes]
    files = ", ".join(f"{name} {size:,} bytes ({size / 1e6:.2f} MB)" for name, size in prediction.files.items())
    lines = [
        _assumptions(result),
        tabulate(rows, ["predicted", "bytes", "GiB"], disable_numparse=True, colalign=("left", "right", "right")),
        f"trainable parameters: {prediction.trainable:,} of {prediction.total:,}",
        f"adapter file: {files}",
        *prediction.notes,
    ]
    return "\n".join(lines)


def _assumptions(result: Plan) -> str:
    config, settings, train = result.config, result.settings, result.train
    shapes = ", ".join(f"{name} {value}" for name, value in result.prediction.shapes.items())
    precision = {"no": "fp32"}.get(train.mixed_precision, train.mixed_precision)
    checkpointing = "on" if train.gradient_checkpointing else "off"
    return (
        f"{config.adapter.name} on {config.task.name}: {shapes}, batch {train.batch_size}, computed in {precision}, "
        f"frozen weights in {settings.weights}, trained weights in fp32, {settings.attention} attention, "
        f"gradient checkpointing {checkpointing}, AdamW, {settings.device}"
    )


def describe_cards(result: Plan, batches: Mapping[int, int]) -> str:
    """The GPUs that it fits and the largest batch on each; names the allowances."""
    from tabulate import tabulate

    settings = result.settings
    rows = [
        (
            f"{card} GB",
            "yes" if result.needed <= card else "no",
            batches[card] or "none",
            f"{card - result.needed:+.2f}",
        )
        for card in CARDS
    ]
    fragmentation = settings.fragmentation * result.prediction.peak / GIB
    return "\n".join(
        [
            f"a GPU needs {result.needed:.2f} GiB: the peak plus allowances (not predicted) of {settings.context:.2f} "
            f"for the CUDA context, kernels and workspaces and {fragmentation:.2f} ({settings.fragmentation:.0%}) for "
            "fragmentation",
            tabulate(rows, ["GPU", f"batch {result.train.batch_size} fits", "largest batch", "GiB left"]),
        ]
    )


if __name__ == "__main__":
    command(main)
