"""Plans as text: bytes by category, phases, allowances, GPUs, and methods side by side."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from experiments.planning.advice import surprises
from experiments.planning.cards import Card, usable
from experiments.planning.memory_plan import CARDS, GIB, Plan
from experiments.precision import stored_in

WIDTH, SMALLEST_WIDTH = 100, 60  # of lines, if the terminal does not tell; columns of a table stay in one piece
USABLE_NOTE = "GPUs are named by the GB that they are sold with, of which a program can use about 7 % less, in GiB"


def describe_plan(result: Plan) -> str:
    """What the plan assumes, and bytes by category at the peak of each phase of the run."""
    prediction = result.prediction
    files = ", ".join(f"{name} {size:,} bytes ({size / 1e6:.2f} MB)" for name, size in prediction.files.items())
    frozen = ", ".join(f"{name} {size / GIB:.2f} GiB" for name, size in prediction.frozen_parts.items())
    lines = [
        *([f"the weights contain other frozen models: {frozen}"] if frozen else []),
        f"trainable parameters: {prediction.trainable:,} of {prediction.total:,}",
        f"adapter file: {files}",
        *prediction.notes,
        *surprises(result),
    ]
    return "\n".join([wrapped(assumptions(result)), _categories(result), *map(wrapped, lines)])


def assumptions(result: Plan) -> str:
    return f"{result.config.adapter.label} on {shared_assumptions(result)}, frozen weights in {_storage(result)}"


def _storage(result: Plan) -> str:
    return stored_in(result.config.task)


def shared_assumptions(result: Plan) -> str:
    """What the plan assumes apart from the method and what its frozen weights are stored in."""
    config, settings, train = result.config, result.settings, result.train
    shapes = ", ".join(f"{name} {value}" for name, value in result.prediction.shapes.items())
    precision = {"no": "fp32"}.get(train.mixed_precision, train.mixed_precision)
    parts = [
        f"{config.task.name}: {shapes}, batch {train.batch_size}, computed in {precision}",
        f"trained weights in fp32, {settings.attention} attention",
        f"gradient checkpointing {'on' if train.gradient_checkpointing else 'off'}, {train.optimizer}",
        *([] if train.ema_decay is None else ["moving average"]),
        *([f"{train.num_processes} processes"] if train.num_processes > 1 else []),
        settings.device,
    ]
    return ", ".join(parts)


def wrapped(text: str) -> str:
    """Sentences on lines that fit the terminal; a path stays in one piece."""
    width = max(SMALLEST_WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    wrapper = textwrap.TextWrapper(width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(wrapper.fill, text.splitlines()))


def _categories(result: Plan) -> str:
    """A row for each phase of the run: bytes by category at its peak."""
    phases = result.prediction.phases
    columns = [phase.timeline.by_category() for phase in phases]
    unit = Unit.of(result.prediction.peak)
    rows = [
        [phase.name, *map(unit.spell, column.values()), unit.spell(phase.peak)]
        for phase, column in zip(phases, columns, strict=True)
    ]
    headers = [f"{unit.name} at the peak of", *(name.replace(" ", "\n") for name in columns[0]), "sum"]
    alignment = ("left", *("right" for _ in headers[1:]))
    return tabulate(rows, headers, disable_numparse=True, colalign=alignment)


@dataclass(frozen=True)
class Unit:
    """A unit of memory that leaves a figure with two or more digits."""

    name: str
    bytes: int
    decimals: int

    @classmethod
    def of(cls, largest: float) -> Unit:
        return cls("GiB", GIB, 2) if largest >= GIB else cls("MiB", 2**20, 1)

    def spell(self, size: float) -> str:
        return f"{size / self.bytes:.{self.decimals}f}"


def describe_cards(result: Plan) -> str:
    """The GPUs that it fits and the largest batch on each; names the allowances."""
    rows = [
        (
            f"{card} GB",
            f"{usable(card):.2f}",
            f"{usable(card) - result.needed:+.2f}",
            "yes" if result.needed <= usable(card) else "no",
            result.largest_batch(usable(card)) or "none",
        )
        for card in CARDS
    ]
    headers = ["sold with", "GiB usable", "GiB left", f"batch {result.train.batch_size} fits", "largest batch"]
    table = tabulate(rows, headers, disable_numparse=True, colalign=("right",) * len(headers))
    return f"{wrapped(allowances(result))}\n{table}\n{wrapped(USABLE_NOTE)}"


def allowances(result: Plan) -> str:
    """What the run needs, and the parts of it that are not predicted."""
    settings, largest = result.settings, result.prediction.largest
    if settings.device == "cpu":
        return f"it needs {result.needed:.2f} GiB, in the {largest.name}, beside the program itself"
    fragmentation = result.fragmentation * largest.peak / GIB
    parts = (
        f"{settings.context:.2f} for the CUDA context and kernels",
        f"{settings.workspaces:.2f} for the workspaces of cuBLAS and cuDNN",
        f"{fragmentation:.2f} ({result.fragmentation:.0%}) for fragmentation",
    )
    return (
        f"a GPU needs {result.needed:.2f} GiB: {largest.peak / GIB:.2f} in the {largest.name}, and allowances, which "
        f"are not predicted: {', '.join(parts)}"
    )


def compare_methods(results: Sequence[Plan], card: Card) -> str:
    """One row per method: sizes, peaks, what it needs, and its largest batch on a GPU."""
    unit = Unit.of(max(result.prediction.peak for result in results))
    rows = [
        (
            result.config.adapter.label,
            _storage(result),
            f"{result.prediction.trainable:,}",
            f"{next(iter(result.prediction.files.values()), 0) / 1e6:,.2f}",
            unit.spell(result.prediction.training.peak),
            unit.spell(result.evaluation_peak),
            f"{result.needed:.2f}",
            "none" if result.smallest_card is None else f"{result.smallest_card} GB",
            result.largest_batch(card.usable) or "none",
        )
        for result in results
    ]
    headers = [
        "method", "frozen\nweights", "trained\nparameters", "file\n(MB)", f"training\npeak ({unit.name})",
        f"evaluation\npeak ({unit.name})", "needed\n(GiB)", "smallest\nGPU", f"largest batch\non {card.name}",
    ]  # fmt: skip
    alignment = ("left", *("right" for _ in headers[1:]))
    table = tabulate(rows, headers, disable_numparse=True, colalign=alignment)
    shared = dict.fromkeys(map(shared_assumptions, results))
    lines = shared if len(shared) == 1 else map(assumptions, results)
    return "\n".join(
        [*map(wrapped, lines), table, wrapped(needed_line(results[0])), wrapped(f"largest batch: on {card}")]
    )


def needed_line(result: Plan) -> str:
    """What "needed" means."""
    settings = result.settings
    if settings.device == "cpu":
        return "needed: the larger peak, beside the program itself"
    return (
        "needed: the larger peak and allowances, which are not predicted: "
        f"{settings.context:.2f} GiB for the CUDA context and kernels, {settings.workspaces:.2f} GiB for the "
        f"workspaces of cuBLAS and cuDNN, {result.fragmentation:.0%} of the peak for fragmentation; {USABLE_NOTE}"
    )
