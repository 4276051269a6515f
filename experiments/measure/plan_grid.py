"""`python -m experiments.plan ... --grid`: what a step needs over sizes, resolutions, batches and settings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig
from experiments.errors import UsageError, did_you_mean
from experiments.plan import CARDS, PlanOptions, make, prepared

if TYPE_CHECKING:
    import pandas as pd

Change = Callable[[RunConfig, Any], RunConfig]
SWITCH = {"off": False, "on": True}


@dataclass(frozen=True)
class Axis:
    """A setting that a grid varies: its usual values, how a word is read, and how a value is set."""

    values: tuple[Any, ...]
    read: Callable[[str], Any]
    change: Change


def axes_of(config: RunConfig) -> dict[str, Axis]:
    """What can be varied here, by name: the method's size and the items' extent have names of their own."""
    axes = {}
    size = config.adapter.size_field
    if size is not None:
        given = getattr(config.adapter, size)
        usual = () if given is None else tuple(dict.fromkeys((max(1, given // 4), given, 4 * given)))
        axes[size] = Axis(usual, int, lambda c, v: replace(c, adapter=replace(c.adapter, **{size: v})))
    extent = config.task.input_size_field
    if extent is not None:
        given = config.task.meta_model().facts[extent]
        axes[extent] = Axis((given // 2, given), int, lambda c, v: replace(c, task=replace(c.task, **{extent: v})))
    return axes | {
        "batch": Axis((1, 8), int, setting("batch")),
        "precision": Axis(("fp32", "bf16"), str, setting("precision")),
        "checkpointing": Axis((False, True), SWITCH.__getitem__, setting("gradient_checkpointing")),
    }


def setting(name: str) -> Change:
    """How one of the training settings is set."""
    return lambda config, value: replace(config, train=replace(config.train, **{name: value}))


def chosen(words: Sequence[str], axes: Mapping[str, Axis]) -> dict[str, tuple[Any, ...]]:
    """The axes that the command line names with their values; all where it names none.

    Raises UsageError for an unknown axis, and for values that are not of its kind.
    """
    found = {}
    for word in words or [name for name, axis in axes.items() if axis.values]:
        name, _, listed = word.partition("=")
        if name not in axes:
            raise UsageError(f"--grid cannot vary '{name}'{did_you_mean(name, axes)}; it varies {', '.join(axes)}")
        try:
            found[name] = tuple(axes[name].read(value) for value in listed.split(",")) if listed else axes[name].values
        except (ValueError, KeyError):
            raise UsageError(f"--grid {word}: expected values such as {name}={example(axes[name])}") from None
        if not found[name]:
            raise UsageError(f"--grid {name} needs values here, for example {name}=1,2")
    return found


def example(axis: Axis) -> str:
    return ",".join(word(value) for value in axis.values) or "1,2"


def word(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def show(config: RunConfig, options: PlanOptions) -> None:
    """Print the table; write it as CSV and as a plot. Raises UsageError where the plot cannot be written."""
    from tabulate import tabulate

    if options.out.suffix not in (".svg", ".png", ".pdf"):
        raise UsageError(f"--out '{options.out}' must end in .svg, .png or .pdf")
    axes = axes_of(config)
    varied = chosen(options.grid or (), axes)
    table = grid(config, options, axes, varied)
    print(tabulate(table.to_dict("list"), headers="keys", floatfmt=".2f"))
    files = options.out, options.out.with_suffix(".csv")
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(files[1], index=False)
        plot(table, list(varied), f"{config.adapter.name} on {config.task.name}", options.out)
    except OSError as unwritable:
        raise UsageError(f"--out '{options.out}' cannot be written ({unwritable.strerror})") from None
    print(f"wrote {files[0]} and {files[1]}")


def grid(
    config: RunConfig, options: PlanOptions, axes: Mapping[str, Axis], varied: Mapping[str, Sequence[Any]]
) -> pd.DataFrame:
    """A row a combination: its values, GiB by category, the need with the allowances, the smallest card that fits."""
    import pandas as pd
    from tqdm import tqdm

    rows = []
    for values in tqdm(list(itertools.product(*varied.values())), desc="predicting", unit="plan"):
        here = config
        for name, value in zip(varied, values, strict=True):
            here = axes[name].change(here, value)
        at = options if "precision" not in varied else replace(options, precision=here.train.mixed_precision)
        plan = make(prepared(here, at), at)
        rows.append(dict(zip(varied, map(word, values), strict=True)) | row(plan))
    return pd.DataFrame(rows)


def row(plan: Any) -> dict[str, Any]:
    found, gib = plan.prediction, 2**30
    cards = [card for card in CARDS if plan.needed <= card]
    return {
        **{name: size / gib for name, size in found.categories.items()},
        "frozen beside it": sum(found.frozen_parts.values()) / gib,
        "peak": found.peak / gib,
        "needed": plan.needed,
        "smallest card": f"{cards[0]} GB" if cards else "none",
        "trainable": found.trainable,
    }


def plot(table: pd.DataFrame, varied: list[str], title: str, file: Path) -> None:
    """The need in GiB along the axis with the most values, a line for every combination of the others."""
    from matplotlib.figure import Figure

    along = max(varied, key=lambda name: (table[name].nunique(), name))
    others = [name for name in varied if name != along]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    groups: Any = table.groupby(others, sort=False) if others else [((), table)]
    for label, part in groups:
        words = ", ".join(f"{name} {value}" for name, value in zip(others, label, strict=True))
        axes.plot(part[along], part["needed"], marker="o", label=words or None)
    highest = max(table["needed"].tolist())
    for card in CARDS:
        if card <= 1.3 * highest:
            axes.axhline(card, color="grey", linewidth=0.6, linestyle="--")
            axes.annotate(
                f"{card} GB", (1, card), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="grey"
            )
    axes.set(xlabel=along, ylabel="needed, GiB (allowances included)", title=title, ylim=(0, None))
    if others:
        axes.legend(fontsize="small")
    figure.savefig(file)
