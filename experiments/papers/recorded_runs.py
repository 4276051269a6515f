"""LoRA and full fine-tuning in the run and cost records below a folder, compared under equal conditions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.measure.method_costs import COSTS_FILE
from experiments.records.folder import RunFolder

LORA, FULL = "lora", "full"


class RecordedRuns:
    """What the records below `runs` say about LoRA and full fine-tuning."""

    def __init__(self, runs: Path):
        self.runs, self.records = runs, finished_records(runs)

    def compare(
        self,
        value: Callable[[Mapping[str, Any]], float | None],
        condition: Callable[[Mapping[str, Any]], str],
        select_lora: Callable[[Mapping[str, Any]], bool] = lambda record: True,
    ) -> dict[str, dict[str, list[float]]]:
        """Values of LoRA's and full fine-tuning's runs, by task, base and condition; only those that have both."""
        pairs: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for record in self.records:
            method, number = record["method"], value(record)
            if number is not None and (method == FULL or (method == LORA and select_lora(record))):
                label = f"{record['task']} ({record['config']['task'].get('base')}, {condition(record)})"
                pairs[label][method].append(number)
        return {label: values for label, values in pairs.items() if values.keys() == {LORA, FULL}}

    @cached_property
    def latencies(self) -> dict[str, dict[str, float]]:
        """Merged LoRA's seconds over the base's in the cost records, by task and size."""
        ratios = {}
        for file in sorted(self.runs.glob(f"*/{LORA}/*/{COSTS_FILE}")):
            record = json.loads(file.read_text())
            size = record["size"]
            ratios[f"{record['task']} ({size['field']} {size['value']})"] = record["inference"]["merged"]
        return ratios


def finished_records(runs: Path) -> list[dict[str, Any]]:
    """The records of all finished runs below `runs/TASK/METHOD/`."""
    records = (RunFolder(file.parent).result() for file in sorted(runs.glob("*/*/*/result.json")))
    return [record for record in records if record is not None and record["status"] == "finished"]
