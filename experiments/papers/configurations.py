"""The configurations that claims are checked with: planned, and counted on models without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from experiments.config import ResolvedTrain, RunConfig, Train
from experiments.papers.parameter_counts import adapter_of
from experiments.planning.memory_plan import Plan, plan
from tasks.base import task_registry

if TYPE_CHECKING:
    from experiments.measure.flops import StepFlops


class Configurations:
    """The configurations in `runs` of published.json, by name."""

    def __init__(self, runs: Mapping[str, Any]):
        self.runs = runs

    def resolved(self, name: str) -> RunConfig:
        """The configuration with every default filled in."""
        run = self.runs[name]
        task = task_registry()[run["task"]](**run["task_settings"])
        return RunConfig(adapter_of(run), task, Train(**run["train"])).resolved()

    @cached_property
    def plans(self) -> Mapping[str, Plan]:
        """The memory plans of the configurations marked `planned`."""
        names = [name for name, run in self.runs.items() if run["planned"]]
        return {name: plan(self.resolved(name)) for name in names}

    def peak(self, name: str) -> int:
        return self.plans[name].prediction.training.peak

    def plan_command(self, name: str) -> str:
        """The command line that plans the configuration."""
        config, words = self.resolved(name), []
        default = RunConfig(type(config.adapter)(), type(config.task)())
        for part in ("adapter", "task"):
            settings, defaults = getattr(config, part), getattr(default, part)
            for f in fields(settings):
                if getattr(settings, f.name) != getattr(defaults, f.name):
                    words.append(f"--{part}.{f.name.replace('_', '-')} {getattr(settings, f.name)}")
        train = self.runs[name]["train"]
        words += [f"--train.{setting.replace('_', '-')} {value}" for setting, value in train.items()]
        return " ".join(["python -m experiments.plan", config.adapter.name, config.task.name, *words])

    def step_flops(self, name: str) -> StepFlops:
        """FLOPs of one optimizer step."""
        from experiments.measure.flops import count_step

        meta_model, attachment, batch = self.on_meta(name)
        return count_step(lambda: meta_model.loss(batch), attachment.parameters().values())

    def forward_flops(self, name: str) -> tuple[int, int, int]:
        """FLOPs of a forward pass: the base's, with the adapter unmerged, and merged."""
        from torch import no_grad
        from torch.utils.flop_counter import FlopCounterMode

        meta_model, attachment, batch = self.on_meta(name)

        def count() -> int:
            with no_grad(), FlopCounterMode(display=False) as counter:
                meta_model.loss(batch)
            return counter.get_total_flops()

        with attachment.disabled():
            base = count()
        unmerged = count()
        attachment.merge()
        return base, unmerged, count()

    def on_meta(self, name: str) -> tuple[Any, Any, Any]:
        """Meta model, attachment and one batch of a configuration, all on the meta device."""
        import torch

        config = self.resolved(name)
        meta_model = config.task.meta_model()
        attachment = config.adapter.attach(meta_model.backbone)
        batch_size = ResolvedTrain.of_steps(config.train, 1).batch_size
        return meta_model, attachment, meta_model.batch(batch_size, torch.device("meta"))
