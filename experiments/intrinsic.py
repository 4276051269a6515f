"""The intrinsic dimension of a task: `python -m experiments.intrinsic [METHOD] TASK`.

d90 is the smallest d at which training in a random subspace reaches 90 % of full fine-tuning's gain over the untuned
base (Li et al. 2018, arXiv 1804.08838; Aghajanyan et al. 2020, arXiv 2012.13255, section 3.2).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cli.errors import command, stop
from experiments.cli.parser import asks_help, parse
from experiments.config import RunConfig
from experiments.errors import UsageError, did_you_mean
from experiments.records.folder import environment, write_json
from experiments.search.bisection import Bracket, Crossing, over_seeds
from experiments.search.size_search import Curve, Goal, SizeSearch, SizeSearches, run_goals, size_field
from experiments.sweeping.jobs import RunJob
from experiments.training.signals import Interruption
from tasks.base import registry as task_registry
from tasks.cache import digest

if TYPE_CHECKING:
    from adapters.backbone import Backbone
    from adapters.base import Adapter
    from experiments.sweeping.local_launcher import Launcher

PROGRAM = "python -m experiments.intrinsic"
METHOD = "subspace"  # where the command line names none
SCHEMA = 1


@dataclass(frozen=True)
class IntrinsicOptions:
    """The smallest size at which METHOD (default: subspace) comes close to full fine-tuning, over seeds: d90.

    For example: python -m experiments.intrinsic e2e --seeds 0 1 2. Every point is an ordinary run, and a finished one
    is not run again. --train.learning-rate and --adapter.* are METHOD's own; the others take what the base recommends.
    """

    runs: Path = Path("runs")
    """Folder that the records and the outcome go to."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each seed is measured on its own, against full fine-tuning of that seed."""
    threshold: float = 0.9
    """Share of the way from the untuned base to full fine-tuning."""
    metric: str | None = None
    """The figure that is judged by. Default: the task's primary_metric."""
    variants: tuple[str, ...] = ()
    """Named forms of METHOD to search (DID, SAID). Default: all that it has."""
    smallest: int = 10
    """Lower end of the range searched (raised where a variant needs more)."""
    largest: int | None = None
    """Upper end of the range searched. Default: as many as the model has weights."""
    factor: float = 10.0
    """Step of the first, coarse search."""
    resolution: float = 4.0
    """Bisection stops where the size that reaches is at most so many times one that does not; between the two, the
    crossing is interpolated on the log scale."""
    rate_exponent: float = 0.5
    """A method's learning rate at size s is its rate times (default size / s) to this power. A step of Adam moves each
    of the s numbers by about the rate; at 0.5 the weights move as far at every dimension, and much the same holds for
    a rank. 0 keeps the rate."""
    beside: tuple[str, ...] = ("lora",)
    """Methods whose smallest size that reaches the same is looked for too, by powers of 4."""
    beside_largest: int = 64
    """Upper end of their range."""
    goal: str = "full"
    """The method that says what 100 % is."""
    jobs: int = 1
    """Runs at a time, each in a process with its share of the cores."""


def main() -> None:
    config, options = parse(IntrinsicOptions, with_method(sys.argv[1:]), PROGRAM)
    check(options)
    from experiments.sweeping.local_launcher import LocalLauncher

    with Interruption():  # a scheduler's SIGTERM ends the workers as Ctrl-C does
        outcome = measure(config, options, LocalLauncher(options.jobs))
    name = digest(json.dumps(outcome["settings"], sort_keys=True, default=str).encode())[:12]
    file = options.runs / config.task.name / f"intrinsic-{name}.json"
    write_json(file, outcome)
    print(*summary(outcome), f"written: {file}", sep="\n")


def with_method(arguments: Sequence[str]) -> list[str]:
    """The command line with its METHOD: one word before the options is the task."""
    words = [word for word in arguments[:2] if not word.startswith("-")]
    if not words and not asks_help(arguments):
        stop(f"expected a TASK, for example: {PROGRAM} e2e; the tasks are {', '.join(sorted(task_registry()))}")
    return [METHOD, *arguments] if len(words) == 1 else list(arguments)


def check(options: IntrinsicOptions) -> None:
    rules = {
        "--seeds must name each seed once": len(set(options.seeds)) == len(options.seeds) > 0,
        "--threshold must be above 0 and at most 1": 0 < options.threshold <= 1,
        "--smallest must be at least 1 and --largest not below it": 1
        <= options.smallest
        <= (options.largest or sys.maxsize),
        "--factor and --resolution must be above 1": min(options.factor, options.resolution) > 1,
        "--beside-largest and --jobs must be at least 1": min(options.beside_largest, options.jobs) >= 1,
    }
    for rule, holds in rules.items():
        if not holds:
            raise UsageError(rule)


def measure(config: RunConfig, options: IntrinsicOptions, launcher: Launcher) -> dict[str, Any]:
    """The whole outcome. Raises UsageError where full fine-tuning gains nothing in any seed."""
    config = replace(config, task=config.resolved().task)  # what the runs will take
    metric = options.metric or config.task.primary_metric
    curves, device = planned(config, options, metric)
    most = len(options.seeds) * (1 + sum(curve.bracket.left() for curve in curves))
    print(
        f"some {most} runs in {len(options.seeds)} seeds, or fewer; those that have finished before are not run again"
    )
    train = replace(config.train, learning_rate=None)
    goals = [
        RunConfig(_method(options.goal)(), config.task, replace(train, seed=seed)).resolved() for seed in options.seeds
    ]
    against = [Goal(RunJob(goal, options.runs), metric, options.threshold) for goal in goals]
    run_goals(against, launcher)
    facts = {goal: goal.facts() for goal in against}
    searches = [
        SizeSearch(curve, goal, facts[goal]["target"], curve.bracket)
        for goal in against
        if "target" in facts[goal]
        for curve in curves
    ]
    if not searches:
        raise UsageError(f"there is no way to measure: {facts[against[0]]['reason']}")
    SizeSearches(searches).perform(launcher)
    return {
        "schema": SCHEMA,
        "task": config.task.name,
        "method": config.adapter.name,
        "metric": metric,
        "better": config.task.metrics[metric].better,
        "threshold": options.threshold,
        "goal": options.goal,
        "settings": config.identity() | {"options": asdict(replace(options, runs=Path(), jobs=1))},
        "seeds": list(facts.values()),
        "curves": [_over_seeds(curve, searches) for curve in curves],
        **environment(device),
    }


def planned(config: RunConfig, options: IntrinsicOptions, metric: str) -> tuple[list[Curve], str]:
    """What is searched, and the device of the runs. Raises UsageError where the task measures no such figure."""
    from experiments.session import base_evaluation, device_of

    device = device_of(config)
    prepared = config.task.prepare(device)
    curves = curves_of(config, options, prepared.backbone)
    measured_here = base_evaluation(prepared).figures
    if metric not in measured_here:  # measured once, before several processes would each
        raise UsageError(
            f"these settings measure no {metric}{did_you_mean(metric, measured_here)}, by which sizes are judged: give more "
            f"--task.test-items, or --metric with one of {', '.join(sorted(measured_here))}"
        )
    return curves, str(device)


def curves_of(config: RunConfig, options: IntrinsicOptions, backbone: Backbone) -> list[Curve]:
    """What is searched: METHOD's variants, then the methods beside it."""
    largest = options.largest or sum(parameter.numel() for parameter in backbone.model.parameters())
    curves = []
    for name, adapter in variants_of(config.adapter, options.variants).items():
        size_field(adapter)
        smallest = max(options.smallest, adapter.least_size(backbone))
        if smallest > largest:
            raise UsageError(f"--largest must be at least {smallest} for {name} here, not {largest}")
        bracket = Bracket.over(smallest, largest, options.factor, options.resolution)
        curves.append(Curve(name, replace(config, adapter=adapter), bracket, options.rate_exponent))
    train = replace(config.train, learning_rate=None)
    for name in options.beside:
        if name == config.adapter.name:
            continue
        adapter = _method(name)()
        size_field(adapter)
        bracket = Bracket.over(adapter.least_size(backbone), options.beside_largest, 4, options.resolution)
        curves.append(Curve(name, RunConfig(adapter, config.task, train), bracket, options.rate_exponent))
    return curves


def variants_of(adapter: Adapter, wanted: Sequence[str]) -> dict[str, Adapter]:
    """The adapter in each of its named forms, or as it is where it has none."""
    known = adapter.variants or {adapter.name: {}}
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"{adapter.name} has no variant '{name}'{did_you_mean(name, known)}; it has {', '.join(known)}"
            )
    return {name: replace(adapter, **known[name]) for name in wanted or known}


def _method(name: str) -> type[Adapter]:
    from adapters.base import registry

    if name not in registry():
        known = ", ".join(sorted(registry()))
        raise UsageError(f"there is no method '{name}'{did_you_mean(name, registry())}; the methods are {known}")
    return registry()[name]


def _over_seeds(curve: Curve, searches: Sequence[SizeSearch]) -> dict[str, Any]:
    own = [search.found() for search in searches if search.curve is curve]
    crossings = [Crossing(found["crossing"], found["below"], found["reaching"]) for found in own]
    span = [curve.bracket.grid[0], curve.bracket.grid[-1]]
    head = {"name": curve.name, "method": curve.config.adapter.name, "field": curve.field, "range": span}
    return head | over_seeds(crossings) | {"seeds": own}


def summary(outcome: dict[str, Any]) -> list[str]:
    """What came out, for the terminal: a line a curve, and a line for each of its seeds."""
    metric, share = outcome["metric"], f"{100 * outcome['threshold']:g} %"
    whole = next(seed["goal"] for seed in outcome["seeds"] if "target" in seed)
    lines = [
        f"{outcome['task']}: the smallest size that reaches {share} of the way from the untuned base to "
        f"{outcome['goal']} in {metric} ({outcome['better']} is better, n={whole['n']}, {whole['extractor']})"
    ]
    lines += [f"left out: {seed['reason']}" for seed in outcome["seeds"] if "reason" in seed]
    for curve in outcome["curves"]:
        lines.append(f"{curve['name']}: {curve['field']} {_found(curve)}; {curve['how']}, n={curve['n']} seeds")
        lines += [f"  seed {found['seed']}: {_place(found)}" for found in curve["seeds"]]
    return lines


def _found(curve: dict[str, Any]) -> str:
    """The size with its interval; an end that lies outside the range searched is that end of the range, and open."""
    smallest, largest = curve["range"]
    low = f"at most {smallest:,}" if curve["low"] is None else _size(curve["low"])
    high = f"above {largest:,}" if curve["high"] is None else _size(curve["high"])
    if curve["above"] == curve["n"] or curve["at_or_below"] == curve["n"]:
        return high if curve["above"] else low
    outside = high if 2 * curve["above"] > curve["n"] else low if 2 * curve["at_or_below"] > curve["n"] else "unknown"
    return f"{_size(curve['value']) or outside} [{low}, {high}]"


def _place(found: dict[str, Any]) -> str:
    """Where a seed's crossing is, in words: a crossing outside the range is said so."""
    if found["reaching"] is None:
        return f"above {found['below']:,}: not reached within the range searched"
    if found["below"] is None:
        return f"at or below {found['reaching']:,}: reached at the lower end of the range searched"
    return f"{_size(found['crossing'])}, between {found['below']:,} (not reached) and {found['reaching']:,} (reached)"


def _size(value: float | None) -> str:
    """Three digits; empty for None."""
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    command(main)
