"""Import PEFT's published method comparison (github.com/huggingface/peft, method_comparison) as run records.

Writes `result.json` and `steps.jsonl`, marked by `source`. What PEFT does not record (n of most figures, intervals, the
untuned base) is absent. Every record has one seed.
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
from reports.records import first_line, load_record
from reports.schema import PEFT_SIZES, Amount, Count, Record, size_option
from reports.upgrade import SCHEMA

SOURCE = "peft-method-comparison"
# PEFT's name: our name, unit, direction, meaning, and the PEFT settings that hold n and the extractor
METRICS = {
    "test accuracy": ("accuracy", "share", "higher", "share of correct answers", None, None),
    "test dino_similarity": (
        "dino_similarity",
        "cosine",
        "higher",
        "similarity to real pictures",
        "test_size",
        "dino_model_id",
    ),
    "forgetting": ("forgetting", "", "lower", "rise of the loss on general text", None, None),
    "drift": ("drift", "", "lower", "change of the pictures of other prompts", None, "dino_model_id"),
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


class PeftRecord(msgspec.Struct):
    run_info: RunInfo
    train_info: TrainInfo
    meta_info: MetaInfo


def import_records(folder: Path, runs: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Write a run folder for every record below `folder`; returns the folders, and the problems by file."""
    files = sorted(folder.rglob("*.json"))
    if not files:
        raise ReportError(
            f"no .json files in '{folder}': pass the folder of PEFT's method_comparison results, which has one per run"
        )
    written: list[Path] = []
    problems: list[tuple[Path, str]] = []
    for file in files:
        try:
            published = load_record(file, PeftRecord)
            record = _record(published, file)
            written.append(_write(record, _steps(published), runs))
            problems += [(file, f"imported without a figure: {reason}") for reason in record["facts"]["left_out"]]
        except (OSError, ValueError, OverflowError) as error:
            problems.append((file, first_line(error)))
    if not written:
        raise ReportError(
            f"none of {len(files)} files is a record of PEFT's comparison ({problems[0][0]}: {problems[0][1]})"
        )
    return written, problems


def _record(published: PeftRecord, file: Path) -> dict[str, Any]:
    run, training, meta = published.run_info, published.train_info, published.meta_info
    task, method = f"peft-{file.parent.name}", run.experiment_name.split("/")[0]
    if not all(re.fullmatch(r"\w[\w.-]*", name) for name in (task, method)):
        raise ValueError(f"'{task}' or '{method}' is not a valid folder name")
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


def _metrics(published: PeftRecord) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The figures of the last evaluation, and the non-finite ones, which a run that diverged can have."""
    last = published.train_info.metrics[-1] if published.train_info.metrics else {}
    settings = published.run_info.train_config
    metrics, left_out = {}, []
    for peft_name, (name, unit, better, meaning, count, extractor) in METRICS.items():
        if peft_name not in last:
            continue
        if isinstance(last[peft_name], float) and not math.isfinite(last[peft_name]):
            left_out.append(f"{name} is {last[peft_name]}")
            continue
        figure = {"value": last[peft_name], "unit": unit, "better": better, "meaning": meaning}
        figure |= {"n": settings.get(count)} if count else {}
        metrics[name] = figure | ({"extractor": settings.get(extractor, "")} if extractor else {})
    return metrics, left_out


def _size(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    name = size_option(settings)
    return None if name is None else {"field": PEFT_SIZES[name], "value": settings[name]}


def _config(run: RunInfo, task: str, method: str) -> dict[str, Any]:
    """The settings that distinguish two PEFT runs: the name of the experiment and the training settings."""
    settings = run.train_config
    optimizer = settings.get("optimizer_kwargs") or {}
    model = str(settings.get("model_id"))
    variant = re.sub(
        rf"^{re.escape(model.split('/')[-1])}-", "", run.experiment_name.split("/")[-1], flags=re.IGNORECASE
    )
    train = {
        "seed": settings.get("seed"),
        "steps": settings.get("max_steps"),
        "batch_size": settings.get("batch_size"),
    }
    train |= {"learning_rate": optimizer.get("lr"), "weight_decay": optimizer.get("weight_decay")}
    train |= {"optimizer": settings.get("optimizer_type")}
    return {
        "adapter": {"name": method, "variant": variant},
        "task": {"name": task, "base": model},
        "train": {name: value for name, value in train.items() if value is not None},
    }


def _seconds(published: PeftRecord) -> dict[str, float | None]:
    """Seconds of training, of the median step, and of the run; PEFT's `train_time` would include evaluations."""
    durations, per_step, before = [], [], 0
    for line in published.train_info.metrics:
        at, seconds = line.get("step"), line.get("train time")
        if isinstance(at, int) and isinstance(seconds, int | float) and at > before:
            durations.append(seconds)
            per_step.append(seconds / (at - before))
            before = at
    return {
        "train": sum(durations) if durations else None,
        "step_median": statistics.median(per_step) if per_step else None,
        "total": published.run_info.total_time,
    }


def _steps(published: PeftRecord) -> list[dict[str, Any]]:
    lines = {
        line["step"]: line["train loss"]
        for line in reversed(published.train_info.metrics)
        if {"step", "train loss"} <= line.keys()
    }
    return [{"step": step, "loss": lines[step]} for step in sorted(lines)]


def _write(record: dict[str, Any], steps: list[dict[str, Any]], runs: Path) -> Path:
    msgspec.convert(record, Record)  # raises ValueError if our reader would refuse it
    folder = runs / record["task"] / record["method"] / record["fingerprint"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "steps.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    temporary = folder / "result.json.new"  # a reader sees a whole record or none; tasks.atomic is not for reports
    temporary.write_text(json.dumps(record, indent=1))
    temporary.replace(folder / "result.json")
    return folder
