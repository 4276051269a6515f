"""Runs that differ in their evaluation alone share one training: the first trains, the others load its adapter."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError
from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.records.folder import CONFIG, RunFolder, read_config
from experiments.records.replacement import has_finished
from tasks.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adapters.base import Attachment

OF_TRAINING = ("memory", "flops", "throughput", "communication", "training")  # entries of a record


def trained_before(config: RunConfig, folder: RunFolder) -> RunFolder | None:
    """A finished run beside `folder` whose training is that of `config`, if `config` has another evaluation.

    There is none for a run that evaluates or samples during training: what that writes belongs to its evaluation.
    """
    during_training = config.train.evaluate_every is not None or config.task.samples_in_training
    if not config.task.evaluation_settings or during_training:
        return None
    files = [file for file in sorted(folder.path.parent.glob(f"*/{CONFIG}")) if file.parent != folder.path]
    others = (RunFolder(file.parent) for file in files if _has_training(file, config))
    return next((other for other in others if other.adapter_file.exists() and has_finished(other)), None)


def _has_training(file: Path, config: RunConfig) -> bool:
    """Whether a run's `config.json` has the training of `config`: every setting but the evaluation's, and the files."""
    try:
        other, content = read_config(file), json.loads(file.read_text()).get("content")
        return _content_of(other, content) == _content_of(config, config.content) and (
            _training_of(other) == _training_of(config)
        )
    except (UsageError, AdapterError, TaskError):  # of another release, or damaged
        return False


def _content_of(config: RunConfig, content: Mapping[str, Mapping[str, str]] | None) -> dict[str, dict[str, str]]:
    """The digests of the files that the training reads."""
    without = config.task.evaluation_settings
    parts = (content or {}).items()
    return {part: {name: value for name, value in files.items() if name not in without} for part, files in parts}


def _training_of(config: RunConfig) -> dict[str, Any]:
    return replace(config, task=config.task.training_alone()).identity()


def load_training(source: RunFolder, folder: RunFolder, attachment: Attachment) -> dict[str, Any]:
    """Load the trained adapter of another run, and copy its logs; returns the record's entries about it."""
    from adapters.interchange.tensors import read_tensors
    from tasks.distributed import is_main

    record = source.result()
    assert record is not None, "the run has finished"
    attachment.load(read_tensors(source.adapter_file)[0])
    attachment.facts["trained_in"] = source.path.name
    for log in source.logs:
        if is_main() and log.exists():
            shutil.copyfile(log, folder.path / log.name)
    return {name: record[name] for name in OF_TRAINING if name in record} | {"seconds": dict(record["seconds"])}
