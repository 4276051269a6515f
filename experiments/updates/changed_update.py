"""Evaluations of a trained run whose update was changed without training: truncated, extracted, scaled in a part."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.precision import compute_of, with_stored
from experiments.records.folder import RunFolder, write_items, write_json
from experiments.records.load_run import finished_record
from experiments.records.provenance import provenance
from experiments.records.run_record import RunRecord
from experiments.updates.weight_delta import (
    Decomposition,
    copy_weights,
    decompose,
    set_weights,
    weight_changes,
    weight_matrices,
)
from tasks.cache import digest

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.base import Evaluation, PreparedTask


@dataclass(frozen=True)
class DecomposedRun:
    """A finished run and its update: the decomposed matrices, and the changes of `vectors` (biases, norms)."""

    folder: RunFolder
    record: Mapping[str, Any]
    config: RunConfig
    prepared: PreparedTask
    matrices: list[Decomposition]
    vectors: dict[str, Tensor]
    base: dict[str, Tensor]  # the changed parameters before training

    def changed_weights(
        self, change_of: Callable[[Decomposition], Tensor | None], with_vectors: bool = True
    ) -> dict[str, Tensor]:
        """The base with `change_of` each matrix, of shape (out, in), in place of its update; None changes nothing.

        Vectors keep their whole update, or none of it.
        """
        weights = {name: weight.clone() for name, weight in self.base.items()}
        for part in self.matrices:
            change = change_of(part)
            if change is not None:
                part.matrix.view(weights[part.matrix.parameter]).add_(change)
        for name, change in self.vectors.items() if with_vectors else ():
            weights[name] += change
        return weights

    def energy_in_vectors(self) -> float:
        """The squared norm of the update outside of matrices."""
        return sum(float(change.square().sum()) for change in self.vectors.values())

    def size_setting(self) -> tuple[str, ...]:
        """The setting that is the run's size, if it has one: a changed update's rank replaces it."""
        size = self.record["size"]
        return () if size is None or size["field"] not in self.record["config"]["adapter"] else (size["field"],)


@dataclass(frozen=True)
class ChangedUpdate:
    """What is evaluated in place of the run's own update, as the method "METHOD-KIND"."""

    kind: str
    settings: Mapping[str, Any]  # what identifies it: settings of its method in the record
    weights: Mapping[str, Tensor]  # the model's parameters
    parameters: int  # numbers that the changed update is stored in
    facts: Mapping[str, Any]
    size: Mapping[str, Any] | None = None
    replaced: tuple[str, ...] = ()  # settings of the run that its method in the record does not have


def measurable_record(path: Path) -> dict[str, Any]:
    """The record of a finished run with figures. Raises UsageError for anything else; loads no model."""
    record = finished_record(RunFolder(path))
    if not record.get("metrics"):
        raise UsageError(
            f"no figure of the run '{path}' is a finite number, so no update derived from it can be compared: choose a "
            "run with figures, or run it again with a lower --train.learning-rate"
        )
    return record


def decompose_run(path: Path) -> DecomposedRun:
    """Decompose the update of the run in `path`.

    Raises UsageError if it is not a finished run with figures, or if its method does not change the model's weights.
    """
    from experiments.process.device import device_of

    folder = RunFolder(path)
    record = measurable_record(path)
    if not folder.adapter_file.exists():
        raise UsageError(
            f"'{path}' has no {folder.adapter_file.name}: run its configuration again with "
            "`python -m experiments.run ... --overwrite`"
        )
    config = RunConfig.from_record(record["config"])
    # in fp32, which takes up a change exactly; the model is called as in the run
    prepared = with_stored(config.task, None).prepare(device_of(config))
    prepared.backbone.compute = compute_of(config.train)
    changes = weight_changes(config, folder, prepared)
    base = {name: weight for name, weight in copy_weights(prepared.backbone).items() if name in changes}
    matrices, vectors = decompose(changes, base, weight_matrices(prepared.backbone))
    return DecomposedRun(folder, record, config, prepared, matrices, vectors, base)


def folder_of(run: DecomposedRun, kind: str, settings: Mapping[str, Any]) -> RunFolder:
    """The folder of a changed update's record, by what identifies it; created if needed."""
    identity = {kind: run.record["fingerprint"], **settings}
    name = digest(json.dumps(identity, sort_keys=True).encode())[:12]
    method = run.record["method"].replace(" ", "-")  # "peft vera"
    path = _task_folder(run, kind) / f"{method}-{kind}" / name
    path.mkdir(parents=True, exist_ok=True)
    return RunFolder(path)


def _task_folder(run: DecomposedRun, kind: str) -> Path:
    """RUNS/TASK if the run is in its place, RUNS/TASK/METHOD/FINGERPRINT; else RUN/KIND/TASK, inside the run.

    Reports read both: `--runs RUNS` or `--runs RUN/KIND`.
    """
    path, task = run.folder.path.resolve(), run.record["task"]
    in_place = (path.parent.parent.name, path.parent.name) == (task, run.config.adapter.name)
    return path.parent.parent if in_place else path / kind / task


def evaluate_update(run: DecomposedRun, update: ChangedUpdate, overwrite: bool = False) -> RunRecord:
    """Evaluate the changed update and write its record; the model is restored afterwards.

    An evaluation on disk is reused unless `overwrite`. One without a finite figure has failed.
    """
    from experiments.session import base_evaluation

    folder = folder_of(run, update.kind, update.settings)
    finished = folder.result()
    if finished is not None and not overwrite:
        return RunRecord(folder.path, finished)
    folder.result_file.unlink(missing_ok=True)
    config = _config_of(run, update)
    write_json(folder.path / "config.json", config)
    untuned = base_evaluation(run.prepared)
    set_weights(update.weights, run.prepared.backbone)
    try:
        figures = _evaluate(run, update, folder, untuned)
    finally:
        set_weights(run.base, run.prepared.backbone)
    record = _record_of(run, update, folder, config) | figures
    write_json(folder.result_file, record)
    return RunRecord(folder.path, record)


def _config_of(run: DecomposedRun, update: ChangedUpdate) -> dict[str, Any]:
    """The run's settings; those that the changed update replaces become trained_<setting>."""
    adapter = dict(run.record["config"]["adapter"])
    for setting in update.replaced:
        adapter[f"trained_{setting}"] = adapter.pop(setting)
    adapter |= {"name": f"{run.record['method']}-{update.kind}", **update.settings}
    return dict(run.record["config"]) | {"adapter": adapter}


def _evaluate(run: DecomposedRun, update: ChangedUpdate, folder: RunFolder, untuned: Evaluation) -> dict[str, Any]:
    from experiments.records.contents import figures_of, with_reasons

    shutil.rmtree(folder.samples, ignore_errors=True)
    start = time.perf_counter()
    tuned = run.prepared.finish(run.prepared.evaluate(folder.samples), untuned, folder.samples)
    write_items(folder.path / "items.parquet", tuned.items)
    seconds = {"evaluate": round(time.perf_counter() - start, 2)}
    facts = with_reasons(run.prepared.facts | dict(update.facts), tuned)
    figures = figures_of(run.config, tuned)
    failed = {} if figures["metrics"] else {"status": "failed", "reason": _undefined(update, tuned)}
    return {**figures, **failed, "facts": facts, "seconds": seconds}


def _undefined(update: ChangedUpdate, tuned: Evaluation) -> str:
    return f"no figure of the {update.kind} model is a finite number ({', '.join(tuned.undefined())})"


def _record_of(
    run: DecomposedRun, update: ChangedUpdate, folder: RunFolder, config: Mapping[str, Any]
) -> dict[str, Any]:
    """The record without its figures and facts."""
    return {
        "status": "finished",
        "reason": None,
        "source": run.record["source"],
        "task": run.record["task"],
        "method": config["adapter"]["name"],
        "fingerprint": folder.path.name,
        "seed": run.record["seed"],
        "size": update.size,
        "config": config,
        "content": run.record.get("content", {}),
        "parameters": {"trainable": update.parameters, "total": run.record["parameters"]["total"]},
        **provenance(str(next(run.prepared.backbone.model.parameters()).device)),
    }


def describe_record(record: RunRecord, subject: str) -> str:
    """One line: the primary metric with its interval, n and extractor, or why it has no figure."""
    if record.status == "failed":
        return f"{subject}: failed: {record.reason}: {record.folder / 'result.json'}"
    name = record.data["primary_metric"]
    figure = record.figure(name)
    interval = "" if figure.low is None else f" ({figure.low:.4g} to {figure.high:.4g})"
    measured = f"{name} {figure.value:.4g} {figure.unit}{interval}, n={figure.n}, {figure.extractor}"
    return f"{subject}: {measured}: {record.folder / 'result.json'}"
