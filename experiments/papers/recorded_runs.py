"""LoRA and full fine-tuning in the run and cost records below a folder, compared under equal conditions."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.config import WITHOUT_EFFECT, RunConfig, Train
from experiments.errors import UsageError
from experiments.measure.method_costs import COSTS_FILE
from experiments.precision import SETTING, has_default_storage, stored_in, with_stored
from experiments.records.folder import RunFolder
from tasks.errors import TaskError

LORA, FULL = "lora", "full"
OF_THE_MACHINE = ("device", "mixed_precision", "num_processes", "deterministic")  # what "default" says nothing about
OF_THE_METHOD = ("learning_rate",)  # training settings that are tuned for each method
Value = Callable[[Mapping[str, Any]], float | None]
Condition = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class RecordedRun:
    """A finished run of LoRA or of full fine-tuning: its record, configuration, and departures from the defaults."""

    record: Mapping[str, Any]
    config: RunConfig
    departures: Mapping[str, Any]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RecordedRun:
        """Raises UsageError or TaskError if today's release does not know the configuration."""
        config = RunConfig.from_record(record["config"])
        adapter, task = type(config.adapter)(), type(config.task)()
        open_task = with_stored(config.task, None)  # its storage may need the run's computation
        default = RunConfig(adapter, open_task, Train()).resolved().as_record()
        default["task"] = RunConfig(adapter, task).as_record()["task"]
        own = RunConfig(config.adapter, open_task, Train()).resolved().train  # a searched rate depends on the size
        default["train"] |= {name: getattr(own, name) for name in OF_THE_METHOD}
        ignored = {"seed", "base", SETTING, *WITHOUT_EFFECT, *OF_THE_MACHINE}
        if config.adapter.name == LORA:  # the size of full fine-tuning, the top blocks alone, makes it another method
            ignored.add(str(config.adapter.size_field))
        departures = {
            f"{part}.{name}": value
            for part, settings in config.as_record().items()
            for name, value in settings.items()
            if name not in ignored and value != default[part][name]
        }
        if not has_default_storage(config):
            departures[f"task.{SETTING}"] = stored_in(config.task)
        return cls(record, config, departures)

    @property
    def is_default(self) -> bool:
        """Whether method and training are as the base's card recommends; the task's settings may differ."""
        return not any(name.startswith(("adapter.", "train.")) for name in self.departures)

    def key(self, part: str) -> str:
        """The settings of "conditions" (task and training) or "method", without the seed and LoRA's size, as text."""
        settings = self.config.as_record()
        if has_default_storage(self.config):  # which the method decides
            settings["task"].pop(SETTING, None)
        own = {name: self.departures.get(f"train.{name}", "default") for name in OF_THE_METHOD}
        for name in ("seed", *WITHOUT_EFFECT, *OF_THE_METHOD):
            settings["train"].pop(name)
        if self.config.adapter.name == LORA:
            settings["adapter"].pop(self.config.adapter.size_field)
        parts = {
            "conditions": {"task": settings["task"], "train": settings["train"]},
            "method": {"adapter": settings["adapter"], "train": own},
        }
        return json.dumps(parts[part], sort_keys=True, default=str)

    @property
    def departures_text(self) -> str:
        items = sorted(self.departures.items())
        return ", ".join(
            f"{name.split('.')[1]} {f'{value:g}' if isinstance(value, float) else value}" for name, value in items
        )


@dataclass
class Pairs:
    """Values of LoRA's and full fine-tuning's runs, by what they have in common; and the runs left out, with why."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def left_out_text(self) -> str:
        return "; ".join(f"{count} x {what}" for what, count in sorted(self.left_out.items()))


class RecordedRuns:
    """What the records below `runs` say about LoRA and full fine-tuning."""

    def __init__(self, runs: Path):
        self.runs, self.records = runs, finished_records(runs)

    def compare(
        self,
        value: Value,
        condition: Condition = lambda record: "",
        select_lora: Callable[[Mapping[str, Any]], bool] = lambda record: True,
    ) -> Pairs:
        """Compare groups of runs that differ in their seed and LoRA's rank alone, under equal task and train settings.

        Full fine-tuning must be at its defaults: all weights, trained as the card recommends. `condition` reads what
        must agree besides the settings. What has no counterpart is left out and named.
        """
        pairs = Pairs()
        groups: dict[str, dict[str, list[tuple[RecordedRun, float]]]] = defaultdict(lambda: defaultdict(list))
        for run in self._runs(pairs, select_lora):
            number = value(run.record)
            if number is None:
                pairs.left_out[f"{_name(run)}: the figure is missing"] += 1
            elif run.config.adapter.name == FULL and not run.is_default:
                pairs.left_out[f"{_name(run)}: not at its defaults"] += 1
            else:
                conditions = run.key("conditions") + condition(run.record)
                groups[conditions][run.key("method")].append((run, number))
        for methods in groups.values():
            _add_pairs(pairs, [*methods.values()], condition)
        return pairs

    def _runs(self, pairs: Pairs, select_lora: Callable[[Mapping[str, Any]], bool]) -> Iterator[RecordedRun]:
        """The runs to compare; those whose configuration cannot be compared are added to `pairs.left_out`."""
        for record in self.records:
            method = record["method"]
            if method != FULL and (method != LORA or not select_lora(record)):
                continue
            try:
                if record.get("source", "run") != "run":
                    raise UsageError("imported")
                yield RecordedRun.of(record)
            except (UsageError, TaskError):
                reason = f"its configuration cannot be compared (source {record.get('source', 'run')})"
                pairs.left_out[f"{method} on {record['task']}: {reason}"] += 1

    @cached_property
    def latencies(self) -> dict[str, dict[str, float]]:
        """Merged LoRA's seconds over the base's in the cost records, by task and size."""
        ratios = {}
        for file in sorted(self.runs.glob(f"*/{LORA}/*/{COSTS_FILE}")):
            record = json.loads(file.read_text())
            size = record["size"]
            ratios[f"{record['task']} ({size['field']} {size['value']})"] = record["inference"]["merged"]
        return ratios


def _add_pairs(pairs: Pairs, groups: list[list[tuple[RecordedRun, float]]], condition: Condition) -> None:
    """Add a pair for every group of LoRA runs if there is a group of full fine-tuning among `groups`."""
    by_method = {name: [g for g in groups if g[0][0].config.adapter.name == name] for name in (LORA, FULL)}
    for name, other in ((LORA, FULL), (FULL, LORA)):
        if not by_method[other]:
            alone = [_name(run) for group in by_method[name] for run, _ in group]
            pairs.left_out.update(f"{each}: no run of {other} to compare it with" for each in alone)
    for full in by_method[FULL]:
        for group in by_method[LORA]:
            run = group[0][0]
            base = str(run.record["config"]["task"].get("base"))
            details = ", ".join(filter(None, [base, condition(run.record), run.departures_text]))
            label = f"{run.record['task']} ({details}; {len(group)} and {len(full)} runs)"
            pairs.values[label] = {LORA: [number for _, number in group], FULL: [number for _, number in full]}


def _name(run: RecordedRun) -> str:
    size = run.record.get("size")
    rank = f" {size['field']} {size['value']}" if size and run.config.adapter.name == LORA else ""
    details = f" ({run.departures_text})" if run.departures else ""
    return f"{run.record['method']}{rank} on {run.record['task']}{details}"


def finished_records(runs: Path) -> list[dict[str, Any]]:
    """The records of all finished runs below `runs/TASK/METHOD/`."""
    records = (RunFolder(file.parent).result() for file in sorted(runs.glob("*/*/*/result.json")))
    return [record for record in records if record is not None and record["status"] == "finished"]
