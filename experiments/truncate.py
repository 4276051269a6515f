"""Rank without retraining: `python -m experiments.truncate RUN --ranks 1 2 4 8`.

The update of a trained run is cut to lower ranks by the singular value decomposition of each matrix, which is its best
approximation of that rank (Eckart and Young 1936), and evaluated as every run is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cli.errors import command
from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.measure.weight_delta import DIRECTIONS, Decomposition, decompose, matrices, put, update_of, weights_of
from experiments.records.folder import RunFolder, environment, write_items, write_json
from experiments.records.load_run import finished_record
from reports.upgrade import SCHEMA
from tasks.cache import digest

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.base import Evaluation, PreparedTask


@dataclass(frozen=True)
class Source:
    """A trained run and its update: decomposed matrices, and `whole`, what no rank applies to (biases, norms)."""

    folder: RunFolder
    record: Mapping[str, Any]
    config: RunConfig
    prepared: PreparedTask
    parts: list[Decomposition]
    whole: dict[str, Tensor]
    base: dict[str, Tensor]  # the changed parameters as they were


def main() -> None:
    options = parser().parse_args()
    if min(options.ranks, default=1) < 1:
        raise UsageError(f"--ranks must be at least 1, not {min(options.ranks)}")
    source = load(options.run)
    write_spectra(source)
    for rank in options.ranks:
        folder, record = truncate(source, rank, options.again)
        name = record["primary_metric"]
        figure = record["metrics"][name]
        interval = f" ({figure['low']:.4g} to {figure['high']:.4g})" if "low" in figure else ""
        print(f"rank {rank}: {name} {figure['value']:.4g}{interval}, n={figure['n']}: {folder.result_file}", flush=True)


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(
        prog="python -m experiments.truncate",
        description="Cut a trained run's update to lower ranks and evaluate each: rank without retraining. "
        "Also writes the spectra of the update beside the run, for `python -m reports spectra`.",
    )
    program.add_argument("run", type=Path, metavar="RUN", help="a finished run's folder, RUNS/TASK/METHOD/FINGERPRINT")
    program.add_argument("--ranks", type=int, nargs="*", default=[1, 2, 4, 8], metavar="N", help="default: 1 2 4 8")
    program.add_argument("--overwrite", action="store_true", help="evaluate again what has been evaluated before")
    return program


def load(path: Path) -> Source:
    """Decompose the update of the run in `path`. Raises UsageError where it is no finished run that can be merged."""
    from experiments.session import device_of

    folder = RunFolder(path)
    record = finished_record(folder)
    if not folder.adapter_file.exists():
        raise UsageError(
            f"'{path}' has lost its {folder.adapter_file.name}: --overwrite of experiments.run makes it anew"
        )
    config = RunConfig.from_record(record["config"])
    prepared = config.task.prepare(device_of(config))
    changes = update_of(config, folder, prepared)
    base = {name: weight for name, weight in weights_of(prepared.backbone).items() if name in changes}
    parts, whole = decompose(changes, base, matrices(prepared.backbone))
    return Source(folder, record, config, prepared, parts, whole, base)


def write_spectra(source: Source) -> None:
    """`spectra.safetensors` beside the run: of each matrix singular values, right vectors and `base_norms`."""
    from safetensors.torch import save_file

    tensors, shapes = {}, {}
    for part in source.parts:
        key = part.matrix.key
        shapes[key] = [len(part.left), part.right.shape[1]]
        tensors[f"{key}/values"] = part.values
        tensors[f"{key}/right"] = part.right[:DIRECTIONS].half()
        tensors[f"{key}/base_norms"] = part.base_norms()
    file = source.folder.path / "spectra.safetensors"
    beside = file.with_suffix(".writing")
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, beside, metadata={"shapes": json.dumps(shapes)})
    beside.replace(file)
    print(f"spectra of {len(source.parts)} matrices: {file}", file=sys.stderr)


def truncate(source: Source, rank: int, again: bool = False) -> tuple[RunFolder, dict[str, Any]]:
    """The record of the update cut to `rank`, an ordinary one of the method "<method>-truncated"."""
    from experiments.session import base_evaluation

    folder = _folder(source, rank)
    finished = folder.result()
    if finished is not None and not again:
        return folder, finished
    folder.result_file.unlink(missing_ok=True)
    config = _config(source, rank)
    write_json(folder.path / "config.json", config)
    untuned = base_evaluation(source.prepared)
    put(truncated_weights(source, rank), source.prepared.backbone)
    try:
        measured = _measure(source, folder, untuned)
    finally:
        put(source.base, source.prepared.backbone)
    record = {
        "schema": SCHEMA,
        "status": "finished",
        "reason": None,
        "source": source.record["source"],
        "task": source.record["task"],
        "method": config["adapter"]["name"],
        "fingerprint": folder.path.name,
        "seed": source.record["seed"],
        "size": {"field": "rank", "value": rank},
        "primary_metric": source.record["primary_metric"],
        "config": config,
        "parameters": {
            "trainable": sum(part.count(rank) for part in source.parts) + sum(w.numel() for w in source.whole.values()),
            "total": source.record["parameters"]["total"],
        },
        "facts": source.prepared.facts | _facts(source, rank),
        **measured,
        **environment(str(next(source.prepared.backbone.model.parameters()).device)),
    }
    write_json(folder.result_file, record)
    return folder, record


def truncated_weights(source: Source, rank: int) -> dict[str, Tensor]:
    """The changed parameters with their update cut to `rank`; what is no matrix keeps its whole update."""
    weights = {name: weight.clone() for name, weight in source.base.items()}
    for part in source.parts:
        part.matrix.of(weights[part.matrix.parameter]).add_(part.cut(rank))
    for name, change in source.whole.items():
        weights[name] += change
    return weights


def _folder(source: Source, rank: int) -> RunFolder:
    identity = {"truncated": source.record["fingerprint"], "rank": rank}
    name = digest(json.dumps(identity, sort_keys=True).encode())[:12]
    path = source.folder.path.resolve().parents[1] / f"{source.record['method']}-truncated" / name
    path.mkdir(parents=True, exist_ok=True)
    return RunFolder(path)


def _config(source: Source, rank: int) -> dict[str, Any]:
    """The source's settings; its own size is called trained_<field>, for the rank is the cut's."""
    adapter = dict(source.record["config"]["adapter"])
    size = source.record["size"]
    if size is not None:
        adapter[f"trained_{size['field']}"] = adapter.pop(size["field"])
    adapter |= {"name": f"{source.record['method']}-truncated", "rank": rank}
    return dict(source.record["config"]) | {"adapter": adapter}


def _measure(source: Source, folder: RunFolder, untuned: Evaluation) -> dict[str, Any]:
    prepared, metrics = source.prepared, source.config.task.metrics
    shutil.rmtree(folder.samples, ignore_errors=True)
    began = time.perf_counter()
    tuned = prepared.finish(prepared.evaluate(folder.samples), untuned, folder.samples)
    write_items(folder.path / "items.parquet", tuned.items)
    return {
        "metrics": {name: figure.as_record() | metrics[name].as_record() for name, figure in tuned.figures.items()},
        "seconds": {"evaluate": round(time.perf_counter() - began, 2)},
    }


def _facts(source: Source, rank: int) -> dict[str, Any]:
    """Whose update it is, how much of it is left (as a share of its squared norm), and what was kept whole."""
    kept = sum(float(part.values[:rank].square().sum()) for part in source.parts)
    total = sum(float(part.values.square().sum()) for part in source.parts)
    whole = sum(float(change.square().sum()) for change in source.whole.values())
    return {
        "truncated_from": source.record["fingerprint"],
        "truncated_matrices": len(source.parts),
        "energy_kept": kept / total,
        "kept_whole": {"tensors": len(source.whole), "share_of_squared_norm": whole / (whole + total)},
    }


if __name__ == "__main__":
    command(main)
