"""PEFT's published method comparison (github.com/huggingface/peft, method_comparison) as ordinary records.

Only `result.json` and `steps.jsonl` are written, marked by `source`; what their records do not say (n of most
figures, intervals, the untuned base) stays absent. They have one seed each.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from reports.errors import ReportError
from reports.records import first_line, load_json
from reports.schema import Amount, Count, Record
from reports.upgrade import SCHEMA

SOURCE = "peft-method-comparison"
# their name: ours, unit, direction, what it is, which of their settings says n and the extractor
METRICS = {
    "test accuracy": ("accuracy", "share", "higher", "answers that are right", None, None),
    "test dino_similarity": (
        "dino_similarity",
        "cosine",
        "higher",
        "likeness to real pictures",
        "test_size",
        "dino_model_id",
    ),
    "forgetting": ("forgetting", "", "lower", "loss gained on general text", None, None),
    "drift": ("drift", "", "lower", "change of pictures of other prompts", None, "dino_model_id"),
}
# their name of a size: ours; the first that a record has with a number above 0
SIZES = {
    "target_r": "rank",
    "r": "rank",
    "num_virtual_tokens": "length",
    "adapter_len": "length",
    "n_frequency": "frequencies",
}


class RunInfo(msgspec.Struct):
    experiment_name: str
    total_time: Amount
    train_config: dict[str, Any]
    peft_config: dict[str, Any] | None = None
    error_msg: str = ""


class TrainInfo(msgspec.Struct):
    status: str
    train_time: Amount
    num_trainable_params: Count
    num_total_params: Count
    accelerator_memory_max: Count
    file_size: Count
    metrics: list[dict[str, Any]]


class MetaInfo(msgspec.Struct):
    package_info: dict[str, Any] = {}
    system_info: dict[str, Any] = {}


class Published(msgspec.Struct):
    run_info: RunInfo
    train_info: TrainInfo
    meta_info: MetaInfo


def import_records(folder: Path, runs: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Write a run folder for every record below `folder`; the folders, and what was refused."""
    files = sorted(folder.rglob("*.json"))
    if not files:
        raise ReportError(f"'{folder}' holds no .json files: expected PEFT's method_comparison results, a file a run")
    written: list[Path] = []
    refused: list[tuple[Path, str]] = []
    for file in files:
        try:
            published = msgspec.convert(load_json(file), Published)
            record = _record(published, file)
            written.append(_write(record, _steps(published), runs))
            refused += [(file, f"imported without a figure: {why}") for why in record["facts"]["left_out"]]
        except (OSError, ValueError, OverflowError) as error:
            refused.append((file, first_line(error)))
    if not written:
        raise ReportError(
            f"none of {len(files)} files is a record of PEFT's comparison ({refused[0][0]}: {refused[0][1]})"
        )
    return written, refused


def _record(published: Published, file: Path) -> dict[str, Any]:
    run, training, meta = published.run_info, published.train_info, published.meta_info
    task, method = f"peft-{file.parent.name}", run.experiment_name.split("/")[0]
    if not all(re.fullmatch(r"\w[\w.-]*", name) for name in (task, method)):
        raise ValueError(f"'{task}' or '{method}' cannot be a folder's name")
    metrics, left_out = _metrics(published)
    finished = training.status == "success"
    settings = run.train_config
    return {
        "schema": SCHEMA,
        "status": "finished" if finished else "failed",
        "reason": None if finished else run.error_msg or training.status,
        "source": SOURCE,
        "task": task,
        "method": method,
        "fingerprint": hashlib.sha256(f"{SOURCE}/{file.parent.name}/{file.stem}".encode()).hexdigest()[:12],
        "seed": settings.get("seed", 0),
        "size": _size(run.peft_config or {}),
        "config": _config(run, task, method),
        "primary_metric": next(iter(metrics), None),
        "metrics": metrics,
        "parameters": {"trainable": training.num_trainable_params, "total": training.num_total_params},
        "adapter_bytes": training.file_size,
        "seconds": _seconds(published),
        "memory": {"peak_bytes": training.accelerator_memory_max, "how": "largest memory reserved on the accelerator"},
        "facts": {"peft_config": run.peft_config, "train_config": settings, "file": f"{file.parent.name}/{file.name}"}
        | {"left_out": left_out, "train_time_with_evaluations": training.train_time},
        "versions": {k.removesuffix("-version"): v for k, v in meta.package_info.items() if k.endswith("-version")},
        "device": meta.system_info.get("accelerator"),
        "host": meta.system_info,
        "git": {"commit": meta.package_info.get("peft-commit-hash"), "dirty": None},
    }


def _metrics(published: Published) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The figures of the last evaluation, and those that are no number (a run that diverged leaves some)."""
    last = published.train_info.metrics[-1] if published.train_info.metrics else {}
    settings = published.run_info.train_config
    found, left_out = {}, []
    for theirs, (name, unit, better, meaning, count, extractor) in METRICS.items():
        if theirs not in last:
            continue
        if isinstance(last[theirs], float) and not math.isfinite(last[theirs]):
            left_out.append(f"{name} is {last[theirs]}")
            continue
        figure = {"value": last[theirs], "unit": unit, "better": better, "meaning": meaning}
        figure |= {"n": settings.get(count)} if count else {}
        found[name] = figure | ({"extractor": settings.get(extractor, "")} if extractor else {})
    return found, left_out


def _size(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    for theirs, ours in SIZES.items():
        value = settings.get(theirs)
        if isinstance(value, int) and value > 0:
            return {"field": ours, "value": value}
    return None


def _config(run: RunInfo, task: str, method: str) -> dict[str, Any]:
    """What tells two of their runs apart: the experiment's name and the training's settings."""
    theirs = run.train_config
    optimizer = theirs.get("optimizer_kwargs") or {}
    model = str(theirs.get("model_id"))
    variant = re.sub(
        rf"^{re.escape(model.split('/')[-1])}-", "", run.experiment_name.split("/")[-1], flags=re.IGNORECASE
    )
    train = {"seed": theirs.get("seed"), "steps": theirs.get("max_steps"), "batch_size": theirs.get("batch_size")}
    train |= {"learning_rate": optimizer.get("lr"), "weight_decay": optimizer.get("weight_decay")}
    train |= {"optimizer": theirs.get("optimizer_type")}
    return {
        "adapter": {"name": method, "variant": variant},
        "task": {"name": task, "base": model},
        "train": {name: value for name, value in train.items() if value is not None},
    }


def _seconds(published: Published) -> dict[str, float | None]:
    """Training steps alone (their `train_time` has the evaluations in between in it), a step, and the whole run."""
    stretches, a_step, before = [], [], 0
    for line in published.train_info.metrics:
        at, seconds = line.get("step"), line.get("train time")
        if isinstance(at, int) and isinstance(seconds, int | float) and at > before:
            stretches.append(seconds)
            a_step.append(seconds / (at - before))
            before = at
    return {
        "train": sum(stretches) if stretches else None,
        "step_median": statistics.median(a_step) if a_step else None,
        "total": published.run_info.total_time,
    }


def _steps(published: Published) -> list[dict[str, Any]]:
    lines = {
        line["step"]: line["train loss"]
        for line in reversed(published.train_info.metrics)
        if {"step", "train loss"} <= line.keys()
    }
    return [{"step": step, "loss": lines[step]} for step in sorted(lines)]


def _write(record: dict[str, Any], steps: list[dict[str, Any]], runs: Path) -> Path:
    msgspec.convert(record, Record)  # raises where our own reader would refuse it
    folder = runs / record["task"] / record["method"] / record["fingerprint"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "steps.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    beside = folder / "result.json.new"
    beside.write_text(json.dumps(record, indent=1))
    beside.replace(folder / "result.json")
    return folder
