"""Rank without retraining: truncate a trained run's update to lower ranks and evaluate each.

The update of every weight matrix is cut by its singular value decomposition, which gives the best approximation of
each rank (Eckart and Young 1936).
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.measure.weight_delta import (
    DIRECTIONS,
    Decomposition,
    copy_weights,
    decompose,
    set_weights,
    weight_changes,
    weight_matrices,
)
from experiments.precision import compute_of, with_stored
from experiments.records.folder import RunFolder, replacing, write_items, write_json
from experiments.records.load_run import finished_record
from experiments.records.provenance import provenance
from experiments.records.run_record import RunRecord
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


def decompose_run(path: Path) -> DecomposedRun:
    """Decompose the update of the run in `path`.

    Raises UsageError if it is not a finished run, or if its method cannot be merged into the weights.
    """
    from experiments.device import device_of

    folder = RunFolder(path)
    record = finished_record(folder)
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


def write_spectra(run: DecomposedRun) -> Path:
    """Write `spectra.safetensors` to the run's folder: per matrix the singular values, right singular vectors and
    `base_norms`."""
    from safetensors.torch import save_file

    tensors, shapes = {}, {}
    for part in run.matrices:
        key = part.matrix.key
        shapes[key] = [len(part.left), part.right.shape[1]]
        tensors[f"{key}/values"] = part.values
        tensors[f"{key}/right"] = part.right[:DIRECTIONS].half()
        tensors[f"{key}/base_norms"] = part.base_norms()
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    file = run.folder.path / "spectra.safetensors"
    with replacing(file, sum(tensor.nbytes for tensor in tensors.values())) as unfinished:
        save_file(tensors, unfinished, metadata={"shapes": json.dumps(shapes)})
    return file


def truncate(folder: str | Path, ranks: Sequence[int] = (1, 2, 4, 8), overwrite: bool = False) -> Iterator[RunRecord]:
    """Evaluate a finished run with its update cut to each rank; yields the records in turn.

    Each is a record of its own, of the method "<method>-truncated". An evaluation on disk is reused unless
    `overwrite`. One without a finite figure has failed. Also writes the spectra of the update, for `python -m reports
    spectra`. Raises UsageError for a run that is not finished, has no finite figure or cannot be merged.
    """
    if min(ranks, default=1) < 1:
        raise UsageError(f"--ranks must be at least 1, not {min(ranks)}")
    source = finished_record(RunFolder(Path(folder)))  # before the base is loaded
    if not source.get("metrics"):
        raise UsageError(
            f"no figure of the run '{folder}' is a finite number, so no truncation of it can be compared: choose a run "
            "with figures, or run it again with a lower --train.learning-rate"
        )
    size = source["size"]
    if size is not None and size["field"] == "rank" and max(ranks, default=1) > size["value"]:
        raise UsageError(f"--ranks must be at most the run's own rank, {size['value']}, not {max(ranks)}")
    run = decompose_run(Path(folder))
    print(f"spectra of {len(run.matrices)} matrices: {write_spectra(run)}", file=sys.stderr)
    each = source["seconds"].get("evaluate")
    if each:
        print(f"{len(set(ranks))} ranks, each evaluated in about {each:.0f} s, as the run was", file=sys.stderr)
    for rank in dict.fromkeys(ranks):
        yield evaluate_rank(run, rank, overwrite)


def evaluate_rank(run: DecomposedRun, rank: int, overwrite: bool = False) -> RunRecord:
    """Evaluate the update cut to one rank and write its record; the model is restored afterwards."""
    from experiments.session import base_evaluation

    folder = _folder_of(run, rank)
    finished = folder.result()
    if finished is not None and not overwrite:
        return RunRecord(folder.path, finished)
    folder.result_file.unlink(missing_ok=True)
    config = _config_of(run, rank)
    write_json(folder.path / "config.json", config)
    untuned = base_evaluation(run.prepared)
    set_weights(truncated_weights(run, rank), run.prepared.backbone)
    try:
        figures = _evaluate(run, rank, folder, untuned)
    finally:
        set_weights(run.base, run.prepared.backbone)
    record = _record_of(run, rank, folder, config) | figures
    write_json(folder.result_file, record)
    return RunRecord(folder.path, record)


def truncated_weights(run: DecomposedRun, rank: int) -> dict[str, Tensor]:
    """The changed parameters with the update of every matrix cut to `rank`; vectors keep their whole update."""
    weights = {name: weight.clone() for name, weight in run.base.items()}
    for part in run.matrices:
        part.matrix.view(weights[part.matrix.parameter]).add_(part.truncate(rank))
    for name, change in run.vectors.items():
        weights[name] += change
    return weights


def _folder_of(run: DecomposedRun, rank: int) -> RunFolder:
    identity = {"truncated": run.record["fingerprint"], "rank": rank}
    name = digest(json.dumps(identity, sort_keys=True).encode())[:12]
    path = _task_folder(run) / f"{run.record['method']}-truncated" / name
    path.mkdir(parents=True, exist_ok=True)
    return RunFolder(path)


def _task_folder(run: DecomposedRun) -> Path:
    """RUNS/TASK if the run is in its place, RUNS/TASK/METHOD/FINGERPRINT; else RUN/truncated/TASK, inside the run.

    Reports read both: `--runs RUNS` or `--runs RUN/truncated`.
    """
    path, task = run.folder.path.resolve(), run.record["task"]
    in_place = (path.parent.parent.name, path.parent.name) == (task, run.config.adapter.name)
    return path.parent.parent if in_place else path / "truncated" / task


def _config_of(run: DecomposedRun, rank: int) -> dict[str, Any]:
    """The run's settings; its own size becomes trained_<field>, since `rank` is that of the truncation."""
    adapter = dict(run.record["config"]["adapter"])
    size = run.record["size"]
    if size is not None:
        adapter[f"trained_{size['field']}"] = adapter.pop(size["field"])
    adapter |= {"name": f"{run.record['method']}-truncated", "rank": rank}
    return dict(run.record["config"]) | {"adapter": adapter}


def _evaluate(run: DecomposedRun, rank: int, folder: RunFolder, untuned: Evaluation) -> dict[str, Any]:
    from experiments.records.contents import figures_of, with_reasons

    shutil.rmtree(folder.samples, ignore_errors=True)
    start = time.perf_counter()
    tuned = run.prepared.finish(run.prepared.evaluate(folder.samples), untuned, folder.samples)
    write_items(folder.path / "items.parquet", tuned.items)
    seconds = {"evaluate": round(time.perf_counter() - start, 2)}
    facts = with_reasons(run.prepared.facts | _truncation_facts(run, rank), tuned)
    figures = figures_of(run.config, tuned)
    failed = {} if figures["metrics"] else {"status": "failed", "reason": _undefined(tuned)}
    return {**figures, **failed, "facts": facts, "seconds": seconds}


def _undefined(tuned: Evaluation) -> str:
    return f"no figure of the truncated model is a finite number ({', '.join(tuned.undefined())})"


def _record_of(run: DecomposedRun, rank: int, folder: RunFolder, config: Mapping[str, Any]) -> dict[str, Any]:
    """The record without its figures and facts."""
    in_matrices = sum(part.parameter_count(rank) for part in run.matrices)
    in_vectors = sum(change.numel() for change in run.vectors.values())
    return {
        "status": "finished",
        "reason": None,
        "source": run.record["source"],
        "task": run.record["task"],
        "method": config["adapter"]["name"],
        "fingerprint": folder.path.name,
        "seed": run.record["seed"],
        "size": {"field": "rank", "value": rank},
        "config": config,
        "parameters": {"trainable": in_matrices + in_vectors, "total": run.record["parameters"]["total"]},
        **provenance(str(next(run.prepared.backbone.model.parameters()).device)),
    }


def _truncation_facts(run: DecomposedRun, rank: int) -> dict[str, Any]:
    """The source run, the share of the update's squared norm that is left, and the share in vectors (never cut)."""
    left = sum(float(part.values[:rank].square().sum()) for part in run.matrices)
    total = sum(float(part.values.square().sum()) for part in run.matrices)
    in_vectors = sum(float(change.square().sum()) for change in run.vectors.values())
    return {
        "truncated_from": run.record["fingerprint"],
        "truncated_matrices": len(run.matrices),
        "energy_kept": left / total,
        "kept_whole": {"tensors": len(run.vectors), "share_of_squared_norm": in_vectors / (in_vectors + total)},
    }
