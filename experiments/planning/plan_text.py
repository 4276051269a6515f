"""Plans as text: bytes by category, phases, allowances, GPUs, and methods side by side."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from experiments.measure.memory.phases import Phase
from experiments.planning.advice import surprises
from experiments.planning.memory_plan import CARDS, GIB, Plan


def describe_plan(result: Plan) -> str:
    """Bytes by category at the peaks of training and evaluation, and what the plan assumes."""
    prediction = result.prediction
    files = ", ".join(f"{name} {size:,} bytes ({size / 1e6:.2f} MB)" for name, size in prediction.files.items())
    frozen = ", ".join(f"{name} {size / GIB:.2f} GiB" for name, size in prediction.frozen_parts.items())
    lines = [
        assumptions(result),
        _categories(result),
        *([f"the weights contain other frozen models: {frozen}"] if frozen else []),
        f"trainable parameters: {prediction.trainable:,} of {prediction.total:,}",
        f"adapter file: {files}",
        *prediction.notes,
        *surprises(result),
    ]
    return "\n".join(lines)


def assumptions(result: Plan) -> str:
    config, settings, train = result.config, result.settings, result.train
    shapes = ", ".join(f"{name} {value}" for name, value in result.prediction.shapes.items())
    precision = {"no": "fp32"}.get(train.mixed_precision, train.mixed_precision)
    parts = [
        f"{config.adapter.label} on {config.task.name}: {shapes}, batch {train.batch_size}, computed in {precision}",
        f"frozen weights in {settings.weights}, trained weights in fp32, {settings.attention} attention",
        f"gradient checkpointing {'on' if train.gradient_checkpointing else 'off'}, {train.optimizer}",
        *([] if train.ema_decay is None else ["moving average"]),
        *([f"{train.num_processes} processes"] if train.num_processes > 1 else []),
        settings.device,
    ]
    return ", ".join(parts)


def _categories(result: Plan) -> str:
    """A column for training and one for each phase of the evaluation."""
    phases = result.prediction.phases
    columns = [phase.timeline.by_category() for phase in phases]
    rows = [[name, *(f"{column[name] / GIB:.2f}" for column in columns)] for name in columns[0]]
    rows.append(["peak", *(f"{phase.peak / GIB:.2f}" for phase in phases)])
    headers = ["GiB at the peak of", *(_wrapped(phase) for phase in phases)]
    alignment = ("left", *("right" for _ in phases))
    return tabulate(rows, headers, disable_numparse=True, colalign=alignment)


def _wrapped(phase: Phase) -> str:
    """A phase's name in lines of few letters."""
    lines = [""]
    for word in phase.name.split():
        separate = lines[-1] and len(lines[-1]) + len(word) > 12
        lines = [*lines, word] if separate else [*lines[:-1], f"{lines[-1]} {word}".strip()]
    return "\n".join(lines)


def describe_cards(result: Plan) -> str:
    """The GPUs that it fits and the largest batch on each; names the allowances."""
    rows = [
        (
            f"{card} GB",
            "yes" if result.needed <= card else "no",
            result.largest_batch(card) or "none",
            f"{card - result.needed:+.2f}",
        )
        for card in CARDS
    ]
    table = tabulate(rows, ["GPU", f"batch {result.train.batch_size} fits", "largest batch", "GiB left"])
    return f"{allowances(result)}\n{table}"


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


def compare_methods(results: Sequence[Plan], memory: float) -> str:
    """One row per method: sizes, peaks, what it needs, and its largest batch on a GPU of so many GiB."""
    rows = [
        (
            result.config.adapter.label,
            f"{result.prediction.trainable:,}",
            f"{sum(list(result.prediction.files.values())[:1]) / 1e6:,.2f}",
            f"{result.prediction.training.peak / GIB:.2f}",
            f"{result.evaluation_peak / GIB:.2f}",
            f"{result.needed:.2f}",
            smallest_card(result),
            result.largest_batch(memory) or "none",
        )
        for result in results
    ]
    headers = [
        "method", "trained\nparameters", "file\n(MB)", "training\npeak (GiB)", "evaluation\npeak (GiB)",
        "needed\n(GiB)", "smallest\nGPU", f"largest batch\non {memory:g} GB",
    ]  # fmt: skip
    alignment = ("left", *("right" for _ in headers[1:]))
    table = tabulate(rows, headers, disable_numparse=True, colalign=alignment)
    return "\n".join([*(assumptions(result) for result in results), table, *map(allowances, results[:1])])


def smallest_card(result: Plan) -> str:
    fitting = [card for card in CARDS if result.needed <= card]
    return f"{fitting[0]} GB" if fitting else "none"
