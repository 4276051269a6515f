"""One run's work: attach an adapter to a task's backbone, train it, measure it and write one record.

`run()` is a whole run as a notebook calls it; `execute()` runs a resolved configuration in a given folder.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base import Adapter, attach
from experiments.config import ResolvedTrain, RunConfig, Train, with_settings
from experiments.device import device_of
from experiments.records.adapter_file import save_adapter
from experiments.records.contents import facts_of, figures_of, head_of, parameters_of
from experiments.records.folder import RunFolder, remove_unfinished, write_items, write_json
from experiments.records.run_record import RunRecord
from tasks import distributed
from tasks.base import Task

if TYPE_CHECKING:
    from adapters.base import Attachment
    from experiments.training.callbacks import Callback
    from experiments.training.signals import Interruption
    from tasks.base import Evaluation, PreparedTask


def run(
    adapter: Adapter,
    task: Task,
    train: Train | None = None,
    *,
    runs: str | Path = "runs",
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    prepared: PreparedTask | None = None,
    **settings: Any,
) -> RunRecord:
    """Train the adapter on the task, measure it and write the record to `runs`; returns the record.

    `settings` are fields of `Train` (`steps=100, seed=1`) and override `train`. `steps=0` measures without training,
    for example an adapter trained elsewhere: `run(Lora(init=FILE), task, steps=0)`. A finished configuration is read,
    not run again, unless `overwrite`; an interrupted one resumes from its checkpoint. `callbacks` follow the training.
    `prepared`, a loaded task (`task.prepare(device)`), can be shared between runs.

    Out of memory, a full disk or divergence give a record whose `status` is "failed" and whose `reason` says why.
    Raises UsageError, AdapterError or TaskError if the settings cannot work.
    """
    config = RunConfig(adapter, task, with_settings(train, settings)).resolved()
    config.task.all_metrics()  # before there is a folder: a metric may not be available
    folder = distributed.on_main(lambda: RunFolder.create(Path(runs), config))
    record = distributed.on_main(folder.result)
    if record is None or overwrite:
        record = execute(config, folder, prepared, overwrite, callbacks)
    return RunRecord(folder.path, json.loads(json.dumps(record, default=str)))  # as a later call reads it


def execute(
    config: RunConfig,
    folder: RunFolder,
    prepared: PreparedTask | None = None,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Run a resolved configuration, from its checkpoint unless `overwrite`; writes and returns the record.

    A run that has ended is not repeated: its record is returned. `prepared` shares a loaded task between runs of one
    process; its backbone is restored at the end. Raises UsageError if another process runs this configuration, and
    Interrupted after a signal.
    """
    from experiments.records.run_lock import only_writer
    from experiments.training.signals import Interruption

    writing = only_writer(folder.path) if distributed.is_main() else contextlib.nullcontext(lambda: None)
    with Interruption() as interruption, writing as check_writer:
        record = distributed.on_main(lambda: _existing(folder, overwrite))
        if record is None:
            session = _Session(config, folder, interruption, check_writer, callbacks)
            with folder.reserve() if distributed.is_main() else contextlib.nullcontext():
                record = _record(session, prepared)
            if distributed.is_main():
                check_writer()
                write_json(folder.result_file, record)
        if distributed.is_main() and record["status"] == "finished":
            shutil.rmtree(folder.checkpoint, ignore_errors=True)
    return record


def _existing(folder: RunFolder, overwrite: bool) -> dict[str, Any] | None:
    """The record of a run that has ended; else None, with the folder ready to start or resume."""
    if overwrite:
        folder.clear()
    record = folder.result()
    if record is None:
        folder.result_file.unlink(missing_ok=True)
        remove_unfinished(folder.path)
    return record


@dataclass(frozen=True)
class _Session:
    """One process's work on one run."""

    config: RunConfig
    folder: RunFolder
    interruption: Interruption
    check_writer: Callable[[], None]
    callbacks: Sequence[Callback]


def _record(session: _Session, prepared: PreparedTask | None) -> dict[str, Any]:
    """Train and measure; returns the record, also of a failure."""
    from experiments.measure.oom_advice import free_memory, what_would_fit
    from experiments.records.failures import Diverged, RunFailure, failures_are_records
    from experiments.training.accelerator import deterministic_algorithms

    config, folder = session.config, session.folder
    device, attachment = device_of(config), None
    free = free_memory(device)
    head = head_of(config, folder, device)
    started = time.perf_counter()
    try:
        with (
            deterministic_algorithms(config.train.deterministic),
            failures_are_records(folder.path, lambda: what_would_fit(config, free)),
        ):
            prepared = prepared or config.task.prepare(device)
            head["facts"] = prepared.facts
            base = base_evaluation(prepared)
            attachment = attach_seeded(config, prepared)
            setup = time.perf_counter() - started
            body = _train_and_measure(session, prepared, attachment, base)
        body["seconds"]["setup"] = round(setup, 2)
        return head | {"status": "finished", "reason": None} | body
    except Diverged as failure:
        saved = None if attachment is None else _save_last_checkpoint(session, attachment)
        return head | {"status": "failed", "reason": f"{failure}; {saved}"}
    except RunFailure as failure:
        return head | {"status": "failed", "reason": str(failure)}
    finally:
        if attachment is not None:
            attachment.detach()


def _save_last_checkpoint(session: _Session, attachment: Attachment) -> str:
    """After divergence, save the weights of the last checkpoint as the adapter file; returns a sentence about it."""
    from experiments.training.checkpoint import load_parameters

    folder = session.folder
    step = load_parameters(folder.checkpoint, attachment.parameters())
    if step is None:
        return "there was no checkpoint yet whose weights could be saved"
    distributed.on_main(lambda: save_adapter(session.config, folder, attachment))
    if distributed.is_main():
        shutil.rmtree(folder.checkpoint)  # a run resumed from it would diverge again
    return f"the weights of step {step} are saved in {folder.adapter_file.name}"


def attach_seeded(config: RunConfig, prepared: PreparedTask) -> Attachment:
    """Attach the adapter to the task's backbone, initialised from the run's seed."""
    from accelerate.utils import set_seed

    set_seed(config.train.seed)  # Python's and numpy's generators too: someone else's method may use them
    return attach(config.adapter, prepared.backbone)


def base_evaluation(prepared: PreparedTask) -> Evaluation:
    """The untuned base's figures, measured in the same way and cached, so that a sweep measures them once."""
    from tasks.base import Evaluation, Figure
    from tasks.cache import cached

    def compute() -> tuple[Any, Any]:
        if distributed.is_main():
            print("measuring the untuned base (once for these settings)", file=sys.stderr)
        evaluation = prepared.evaluate()
        figures = {name: figure.as_record() for name, figure in evaluation.figures.items()}
        return evaluation.artifacts, {"figures": figures, "items": evaluation.items}

    artifacts, value = cached("base-evaluation", prepared.evaluation_key, compute)
    figures = {name: Figure(**record) for name, record in value["figures"].items()}
    return Evaluation(figures, value["items"], artifacts)


def _train_and_measure(
    session: _Session, prepared: PreparedTask, attachment: Attachment, base: Evaluation
) -> dict[str, Any]:
    config, folder = session.config, session.folder
    training = _train(session, prepared, attachment)
    adapter_bytes = distributed.on_main(lambda: save_adapter(config, folder, attachment))
    started = time.perf_counter()
    samples = folder.samples if distributed.is_main() else None
    tuned = prepared.finish(evaluate(config, prepared, attachment, samples), base, samples)
    distributed.on_main(lambda: write_items(folder.path / "items.parquet", tuned.items))
    return {
        **figures_of(config, tuned),
        "parameters": parameters_of(prepared, attachment),
        "adapter_bytes": adapter_bytes,
        **training,
        "seconds": training["seconds"] | {"evaluate": round(time.perf_counter() - started, 2)},
        "facts": facts_of(prepared, attachment),
    }


def _train(session: _Session, prepared: PreparedTask, attachment: Attachment) -> dict[str, Any]:
    """Train; returns the record's entries about it. A run of 0 steps has no memory, operations or time per step."""
    from experiments.measure.step_costs import step_costs
    from experiments.training.loop import Trainer

    if ResolvedTrain.of(session.config.train, prepared.train_items).steps == 0:
        return {"seconds": {"train": 0.0}, "training": {"steps": 0}}
    trainer = Trainer(
        prepared,
        attachment,
        session.config.train,
        session.folder.path,
        session.interruption,
        session.check_writer,
        session.callbacks,
    )
    trained = trainer.run()
    return {
        "memory": dict(trained.memory),
        **distributed.on_main(lambda: step_costs(trainer)),
        "seconds": {"train": round(trained.seconds, 2), "step_median": round(trained.step_median, 5)},
        "training": {
            "steps": trainer.settings.steps,
            "final_loss": trained.final_loss,
            "resumed_from": trained.resumed_from,
            "differs": trained.differs,
        },
    }


def evaluate(
    config: RunConfig, prepared: PreparedTask, attachment: Attachment, samples: Path | None = None
) -> Evaluation:
    """Evaluate the tuned model, with merged weights if the method can: the same figures, faster."""
    if not config.adapter.mergeable:
        return prepared.evaluate(samples)
    attachment.merge()
    try:
        return prepared.evaluate(samples)
    finally:
        attachment.unmerge()
