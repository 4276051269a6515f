"""Will it fit? Predict a run's memory before renting a GPU: `python -m experiments.plan METHOD [METHOD ...] TASK`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from adapters.bounds import bounded
from experiments.cli.errors import command
from experiments.cli.parser import parse
from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.planning.cards import Card, card_of
from experiments.planning.memory_plan import PlanSettings, plan

PROGRAM = "python -m experiments.plan"
CARD_OF_COMPARISONS = "24"


@dataclass(frozen=True)
class PlanOptions(PlanSettings):
    """Predict the memory of a run (training and evaluation) and the GPUs that it fits; needs no weights, data or GPU.

    Several methods are compared: python -m experiments.plan lora full bottleneck sd-pokemon --task.base sd-2-1. The
    predictions beside published peaks: python -m experiments.plan published. For example:
    python -m experiments.plan lora sd-pokemon --task.base sd-2-1 --task.resolution 512
    """

    tflops: float | None = bounded(None, above=0, at_most=1e6)
    """Peak rate of the GPU in TFLOP/s, for estimates of time. Default: that of --card."""
    grid: tuple[str, ...] | None = None
    """Vary settings: the adapter's size (rank, ...), the input size (resolution, max_length), batch_size,
    mixed_precision, gradient_checkpointing. With or without values: --grid rank=1,4,16 batch_size=1,8
    gradient_checkpointing; --grid alone varies all of them."""
    output: Path = Path("plan.svg")
    """Plot of the grid (.svg, .png or .pdf); the table is written beside it as .csv."""

    @property
    def assumptions(self) -> PlanSettings:
        """These options without the command's own."""
        return PlanSettings(**{f.name: getattr(self, f.name) for f in fields(PlanSettings)})


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["published"]:
        if len(arguments) > 1:
            raise UsageError(f"'published' takes no further arguments: {PROGRAM} published")
        show_published()
        return
    configs, options = parse_methods(arguments)
    card = None if options.card is None else card_of(options.card)
    configs[0].task.check_base()
    if options.grid is not None:
        if len(configs) > 1:
            raise UsageError(
                "--grid varies the settings of one method: name one, or leave --grid out to compare methods"
            )
        with explained_if_impossible(configs[0]):
            show_grid(configs[0], options)
    elif len(configs) > 1:
        show_comparison(configs, options, card)
    else:
        with explained_if_impossible(configs[0]):
            show_plan(configs[0], options, card)


@contextmanager
def explained_if_impossible(config: RunConfig) -> Iterator[None]:
    """A context that raises UsageError for a method whose step depends on the values of tensors, which a plan lacks."""
    try:
        yield
    except Exception as error:
        from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

        if not isinstance(error, (DataDependentOutputException, DynamicOutputShapeException)):
            raise
        raise UsageError(
            f"{config.adapter.label} cannot be planned, since its step depends on the values of its weights "
            f"({error.func}): a run of a few steps (--train.steps 2) records its memory"
        ) from None


def parse_methods(arguments: Sequence[str]) -> tuple[list[RunConfig], PlanOptions]:
    """METHOD [METHOD ...] TASK [options]: a configuration for each method. Every method must have the options."""
    count = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    words, rest = list(arguments[:count]), list(arguments[count:])
    if len(words) <= 2:
        config, options = parse(PlanOptions, arguments, PROGRAM)
        return [config], options
    parsed = [parse(PlanOptions, [method, words[-1], *rest], PROGRAM) for method in dict.fromkeys(words[:-1])]
    return [config for config, _ in parsed], parsed[0][1]


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def show_plan(config: RunConfig, options: PlanOptions, card: Card | None) -> None:
    from experiments.planning.advice import to_fit
    from experiments.planning.durations import durations
    from experiments.planning.plan_text import describe_cards, describe_plan, wrapped

    say("predicting the memory of the run from the model's shapes (5 to 20 s)")
    result = plan(config, options.assumptions, say)
    print(describe_plan(result), flush=True)
    say("predicting larger batches")
    print(describe_cards(result))
    print(*map(wrapped, durations(result, card, options.tflops)), sep="\n")
    if card is None:
        print("--card says what to change to fit a GPU: --card 8, --card t4")
        return
    advice = to_fit(result, card.usable, say)
    print(wrapped(f"on {card}:"))
    print("\n".join(advice) or f"it fits: largest batch {result.largest_batch(card.usable)}")


def show_comparison(configs: Sequence[RunConfig], options: PlanOptions, card: Card | None) -> None:
    """The methods side by side; their largest batches are those on `--card`."""
    from experiments.planning.durations import durations
    from experiments.planning.plan_text import compare_methods, wrapped

    results = []
    for number, config in enumerate(configs, start=1):
        say(f"{number} of {len(configs)}: {config.adapter.label} (5 to 20 s each)")
        with explained_if_impossible(config):
            results.append(plan(config, options.assumptions))
    print(compare_methods(results, card or card_of(CARD_OF_COMPARISONS)))
    for result in results if card is not None or options.tflops is not None else ():
        print(f"{result.config.adapter.label}:", *map(wrapped, durations(result, card, options.tflops)), sep="\n")


def show_published() -> None:
    """Published peaks beside our predictions."""
    from experiments.papers.published_peaks import compare_peaks, peaks_text

    say("predicting published configurations (about a minute)")
    print(peaks_text(compare_peaks(say)))


def show_grid(config: RunConfig, options: PlanOptions) -> None:
    """Print the table; write it as CSV and as a plot. Raises UsageError if the files cannot be written."""
    from tabulate import tabulate

    from experiments.planning.grid import grid_axes, parse_axes, plan_grid
    from experiments.planning.grid_plot import FORMATS, plot_grid
    from experiments.planning.plan_text import USABLE_NOTE, wrapped

    if options.output.suffix not in FORMATS:
        raise UsageError(f"--output '{options.output}' must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    axes = grid_axes(config)
    varied = parse_axes(options.grid or (), axes)
    table = plan_grid(config, options.assumptions, axes, varied)
    headers = [name.replace(" (", "\n(") for name in table.columns]
    print(tabulate(table.values.tolist(), headers=headers, floatfmt=".2f"))
    note = (
        "needed: the larger of the training and evaluation peaks, plus the allowances --context, --workspaces and "
        f"--fragmentation; largest batch: that fits the smallest GPU of the row; {USABLE_NOTE}"
    )
    print(wrapped(note))
    csv = options.output.with_suffix(".csv")
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(csv, index=False)
        plot_grid(table, list(varied), f"{config.adapter.name} on {config.task.name}", options.output)
    except OSError as error:
        raise UsageError(f"--output '{options.output}' cannot be written ({error.strerror})") from None
    print(f"wrote {options.output} and {csv}")


if __name__ == "__main__":
    command(main)
