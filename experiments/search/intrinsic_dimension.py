"""Measure the intrinsic dimension: the smallest size of a method that comes close to a goal, over seeds.

By default that is the smallest d at which training in a random subspace (Li et al. 2018, arXiv 1804.08838) reaches 90 %
of full fine-tuning's gain over the untuned base. The d90 of Aghajanyan et al. (2020, arXiv 2012.13255, section 3.2) is
90 % of its performance, which an untuned base may have half of: `--of performance`. On planted tasks the goal is the
teacher, whose effect is known, and full fine-tuning only if asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adapters.base import adapter_registry
from adapters.bounds import LARGEST_COUNT, bounded
from experiments.config import RunConfig, registered
from experiments.errors import UsageError, check_numbers, did_you_mean
from experiments.planning.expected_time import expected_time
from experiments.precision import compute_of, computing_in
from experiments.records.provenance import provenance
from experiments.search.bisection import Bisection, Crossing, combine_seeds
from experiments.search.goals import KnownGoal, RunGoal, run_goals
from experiments.search.size_search import SizedMethod, SizeSearch, SizeSearches, size_field
from experiments.sweeping.jobs import RunJob
from experiments.training.settings import LARGEST_SEED

if TYPE_CHECKING:
    from adapters.backbone import Backbone
    from adapters.base import Adapter
    from experiments.sweeping.local_launcher import Launcher
    from tasks.base import Figure

GRID_FACTOR_OF_OTHERS = 4
COUNTED_RANGE: dict[str, Any] = {"smallest": 10, "factor": 10.0, "resolution": 4.0}  # of a number of parameters
SMALL_RANGE: dict[str, Any] = {"smallest": 1, "factor": 2.0, "resolution": 1.5}  # of a rank, a width, a length


@dataclass(frozen=True)
class IntrinsicSettings:
    """What is searched, and what counts as close."""

    seeds: tuple[int, ...] = bounded((0, 1, 2), at_least=0, at_most=LARGEST_SEED)
    """Seeds; each is compared with the goal of the same seed."""
    threshold: float = bounded(0.9, above=0, at_most=1)
    """Share of the goal's gain (or performance, see --of) that counts as close."""
    of: Literal["gain", "performance"] = "gain"
    """What --threshold is a share of: the goal's gain over the untuned base, or the goal's value of the metric (d90 as
    Aghajanyan et al. 2020 define it; only this compares with their figures). The latter needs a metric of which higher
    is better."""
    metric: str | None = None
    """Metric that decides. Default: the task's primary metric."""
    variants: tuple[str, ...] = ()
    """Named variants of METHOD to search. Default: all that it has."""
    smallest: int | None = bounded(None, at_least=1, at_most=LARGEST_COUNT)
    """Lower end of the search range (raised if a variant needs more). Default: 10 for a size that is the number of
    trained parameters (subspace), 1 for a rank, a width or a length."""
    largest: int | None = bounded(None, at_least=1, at_most=LARGEST_COUNT)
    """Upper end of the search range. Default: the number of the model's weights; of a rank, a width or a length
    --other-largest."""
    factor: float | None = bounded(None, above=1, at_most=LARGEST_COUNT)
    """Ratio between neighbouring sizes of the coarse search. Default: 10; of a rank, a width or a length 2."""
    resolution: float | None = bounded(None, above=1, at_most=LARGEST_COUNT)
    """Bisection stops once the smallest size that reaches the target is at most this many times the largest that does
    not; the crossing is interpolated between the two on the log scale. Default: 4; of a rank, a width or a length
    1.5."""
    rate_exponent: float | None = bounded(None, at_least=0, at_most=4)
    """Where no search on the base (`sweep --search-lr 5 --save-rates`) has found METHOD's learning rates: the rate at
    size s is the one at the default size times (default size / s) to this power, a law and not tuned. Default: 0.5 for
    subspace (one step of Adam then moves the weights equally far at every dimension), else 0."""
    other_methods: tuple[str, ...] = ("lora",)
    """Further methods to search for the smallest size with the same quality, over powers of 4."""
    other_largest: int = bounded(64, at_least=1, at_most=LARGEST_COUNT)
    """Upper end of the search range of --other-methods."""
    goal: str | None = None
    """The method that defines 100 %. Default: on planted tasks the teacher, else full."""

    def check(self) -> None:
        """Raise UsageError for a value out of range."""
        check_numbers(self)
        rules = {
            "--seeds must name at least one seed, and each only once": 0 < len(self.seeds) == len(set(self.seeds)),
            "--largest must not be below --smallest": (self.smallest or 1) <= (self.largest or sys.maxsize),
        }
        for rule, holds in rules.items():
            if not holds:
                raise UsageError(rule)

    def for_method(self, adapter: Adapter) -> IntrinsicSettings:
        """These settings with the search range and its steps filled in, as suits the method's kind of size."""
        counts = adapter.size_counts_parameters
        defaults = COUNTED_RANGE if counts else SMALL_RANGE | {"largest": self.other_largest}
        return replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})

    def as_record(self) -> dict[str, Any]:
        """These settings, without those that a subclass adds; `of` only if it is not the default.

        An earlier release, which did not have it, named its file by the others.
        """
        settings = {f.name: getattr(self, f.name) for f in fields(IntrinsicSettings)}
        return settings if self.of != IntrinsicSettings.of else {k: v for k, v in settings.items() if k != "of"}


def intrinsic_dimension(
    config: RunConfig, settings: IntrinsicSettings, runs: Path, launcher: Launcher
) -> dict[str, Any]:
    """Search the smallest size of `config`'s method (in each variant) and of `settings.other_methods`.

    Returns the outcome as JSON values, in the form that reports read. Raises UsageError if the goal gains nothing in
    any seed, so that there is no distance to measure.
    """
    settings.check()
    settings = settings.for_method(config.adapter)
    config = replace(config, task=config.resolved().task)  # on a CPU the runs may use a smaller task
    metric = settings.metric or config.task.primary_metric
    settings = replace(settings, goal=_goal_name(config, settings, metric))
    _check_performance(config, settings, metric)
    methods, base, device = plan_searches(config, settings, metric)
    goals_to_run = 0 if settings.goal is None else 1
    most = len(settings.seeds) * (goals_to_run + sum(method.bisection.steps_left() for method in methods))
    print(f"at most {most} runs in {len(settings.seeds)} seeds; runs that have finished before are reused", flush=True)
    if expected := expected_time(most * [config.resolved()], runs):
        print(f"one after the other they would take {expected}", flush=True)
    goals = goals_of(config, settings, metric, base, runs)
    run_goals([goal for goal in goals if isinstance(goal, RunGoal)], launcher)
    seeds = {goal: goal.as_record() for goal in goals}
    searches = [
        SizeSearch(method, goal, seeds[goal]["target"], runs, method.bisection)
        for goal in goals
        if "target" in seeds[goal]
        for method in methods
    ]
    if not searches:
        raise UsageError(f"there is no gain to compare with: {seeds[goals[0]]['reason']}")
    SizeSearches(searches).run(launcher)
    return {
        "task": config.task.name,
        "method": config.adapter.name,
        "metric": metric,
        "better": config.task.all_metrics()[metric].better,
        "threshold": settings.threshold,
        "of": settings.of,
        "goal": goals[0].name,
        "settings": config.identity() | {"options": settings.as_record()},
        "seeds": list(seeds.values()),
        "curves": [_combined(method, searches) for method in methods],
        **provenance(device),
    }


def _goal_name(config: RunConfig, settings: IntrinsicSettings, metric: str) -> str | None:
    """The method that defines 100 %; None if the metric's value for a model that has learned everything does."""
    decides = config.task.all_metrics().get(metric)
    known = decides is not None and decides.perfect is not None
    return settings.goal or (None if known else "full")


def goals_of(
    config: RunConfig, settings: IntrinsicSettings, metric: str, base: Figure, runs: Path
) -> Sequence[RunGoal | KnownGoal]:
    """The goal of each seed: a run of the goal's method, with the learning rate that the base recommends for it, or
    the metric's value for a model that has learned everything. `base` is the untuned base's figure.
    """
    common = (config.task.all_metrics()[metric], settings.threshold, settings.of)
    if settings.goal is None:
        assert common[0].perfect is not None, "else `_goal_name` gave a method"
        return [KnownGoal(*common, seed, *common[0].perfect, base) for seed in settings.seeds]
    method = registered(adapter_registry(), settings.goal, "method")
    train = replace(config.train, learning_rate=None)
    configs = [RunConfig(method(), config.task, replace(train, seed=seed)).resolved() for seed in settings.seeds]
    return [RunGoal(*common, goal.train.seed, settings.goal, RunJob(goal, runs)) for goal in configs]


def _check_performance(config: RunConfig, settings: IntrinsicSettings, metric: str) -> None:
    declared = config.task.all_metrics().get(metric)
    if settings.of == "performance" and declared is not None and declared.better == "lower":
        raise UsageError(
            f"--of performance needs a metric of which higher is better, and lower {metric} is better: give --metric "
            "another one, or use --of gain"
        )


def plan_searches(config: RunConfig, settings: IntrinsicSettings, metric: str) -> tuple[list[SizedMethod], Figure, str]:
    """What is searched, the untuned base's figure, and the device of the runs.

    Raises UsageError if the task does not measure the metric.
    """
    from experiments.process.device import device_of
    from experiments.session import base_evaluation

    device = device_of(config)
    prepared = config.task.prepare(device)
    methods = [
        *_variants_to_search(config, settings, prepared.backbone),
        *_others_to_search(config, settings, prepared.backbone),
    ]
    with computing_in(prepared, compute_of(config.train)):
        figures = base_evaluation(prepared).figures  # cached here, before several processes each compute it
    if metric not in figures:
        raise UsageError(
            f"these settings do not measure {metric}{did_you_mean(metric, figures)}, which decides: give more "
            f"--task.test-items, or --metric with one of {', '.join(sorted(figures))}"
        )
    return methods, figures[metric], str(device)


def _variants_to_search(config: RunConfig, settings: IntrinsicSettings, backbone: Backbone) -> list[SizedMethod]:
    largest = settings.largest or sum(parameter.numel() for parameter in backbone.model.parameters())
    methods = []
    for name, adapter in variants_of(config.adapter, settings.variants).items():
        size_field(adapter)
        smallest = max(settings.smallest or 1, adapter.least_size(backbone))
        if smallest > largest:
            raise UsageError(f"--largest must be at least {smallest} for {name} on this model, not {largest}")
        assert settings.factor is not None, "filled in by `for_method`"
        assert settings.resolution is not None, "filled in by `for_method`"
        bisection = Bisection.over(smallest, largest, settings.factor, settings.resolution)
        exponent = adapter.rate_exponent if settings.rate_exponent is None else settings.rate_exponent
        methods.append(SizedMethod(name, replace(config, adapter=adapter), bisection, exponent))
    return methods


def _others_to_search(config: RunConfig, settings: IntrinsicSettings, backbone: Backbone) -> list[SizedMethod]:
    train = replace(config.train, learning_rate=None)
    methods = []
    for name in settings.other_methods:
        if name == config.adapter.name:
            continue
        adapter = registered(adapter_registry(), name, "method")()
        size_field(adapter)
        smallest = adapter.least_size(backbone)
        assert settings.resolution is not None, "filled in by `for_method`"
        bisection = Bisection.over(smallest, settings.other_largest, GRID_FACTOR_OF_OTHERS, settings.resolution)
        methods.append(SizedMethod(name, RunConfig(adapter, config.task, train), bisection, adapter.rate_exponent))
    return methods


def variants_of(adapter: Adapter, names: Sequence[str]) -> dict[str, Adapter]:
    """The adapter in each of its named variants (all without `names`); the adapter itself if it has no variants."""
    variants = adapter.variants or {adapter.name: {}}
    for name in names:
        if name not in variants:
            raise UsageError(
                f"{adapter.name} has no variant '{name}'{did_you_mean(name, variants)}; it has {', '.join(variants)}"
            )
    return {name: replace(adapter, **variants[name]) for name in names or variants}


def _combined(method: SizedMethod, searches: Sequence[SizeSearch]) -> dict[str, Any]:
    """One method's result over seeds, and the search of each seed."""
    seeds = [search.as_record() for search in searches if search.method is method]
    crossings = [Crossing(seed["crossing"], seed["below"], seed["reaching"]) for seed in seeds]
    return {
        "name": method.name,
        "method": method.config.adapter.name,
        "field": method.field,
        "range": [method.bisection.grid[0], method.bisection.grid[-1]],
        "rates": method.rates,
        **combine_seeds(crossings),
        "seeds": seeds,
    }
