"""One run's work: attach an adapter to a task's backbone, train it, measure it and write one record.

`run()` is a whole run as a notebook calls it; `execute()` runs a resolved configuration in a given folder.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base import Adapter, attach
from experiments.config import RunConfig, Train
from experiments.precision import compute_of, computing_in, fast_matmul, merges_exactly, precision_key
from experiments.process.device import device_of
from experiments.records.adapter_file import save_adapter
from experiments.records.contents import facts_of, figures_of, head_of, parameters_of
from experiments.records.folder import RunFolder, write_items
from experiments.records.run_record import RunRecord
from experiments.training.settings import ResolvedTrain, with_settings
from tasks import distributed
from tasks.base import Task

if TYPE_CHECKING:
    from adapters.base import Attachment
    from experiments.training.callbacks import Callback
    from experiments.training.logs.quality_curve import QualityCurve
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
    from experiments.training.preflight import check_before_loading

    config = RunConfig(adapter, task, with_settings(train, settings)).resolved()
    check_before_loading(config)
    folder = distributed.on_main(lambda: RunFolder.of(Path(runs), config))
    record = None if overwrite else distributed.on_main(folder.result)
    if record is None:
        record = execute(config, folder, prepared, overwrite, callbacks)
    return RunRecord(folder.path, json.loads(json.dumps(record, default=str)))  # as a later call reads it


def execute(
    config: RunConfig,
    folder: RunFolder,
    prepared: PreparedTask | None = None,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Run a resolved configuration that has passed `check_before_loading`; writes and returns the record.

    Without `overwrite`, a run that has ended is not repeated (its record is returned), and an interrupted one resumes
    from its checkpoint. With it, a finished run stays until its replacement has finished; an interrupted replacement
    resumes. Without it, the training of a finished run that differs in its evaluation alone is not repeated. `prepared`
    shares a loaded task between runs of one process; its backbone is restored at the end. Raises UsageError if another
    process runs this configuration, or if it cannot work, and Interrupted after a signal; a folder in which nothing has
    been done is then removed.
    """
    from experiments.records.replacement import prepared_folder, write_record
    from experiments.records.shared_training import trained_before
    from experiments.training.signals import Interruption

    with Interruption() as interruption, _exclusive(folder) as check_writer:
        record, target = distributed.on_main(lambda: prepared_folder(config, folder, overwrite))
        if record is not None:
            return record
        trained = None if overwrite else distributed.on_main(lambda: trained_before(config, folder))
        session = _Session(config, target, interruption, check_writer, callbacks, trained)
        with target.reserve() if distributed.is_main() else contextlib.nullcontext():
            record = _record(session, prepared)
        if distributed.is_main():
            check_writer()
            write_record(folder, target, record)
    return record


@contextlib.contextmanager
def _exclusive(folder: RunFolder) -> Iterator[Callable[[], None]]:
    """Create a run's folder and hold its lock, in the main process; the value is a function to call before writing.

    After an error the folder is removed if nothing has been done in it. Raises UsageError, in every process, if another
    program holds the lock or the folder cannot be written.
    """
    from experiments.records.replacement import remove_unused_config
    from experiments.records.run_lock import LockLost, only_writer

    checks: list[Callable[[], None]] = []
    with contextlib.ExitStack() as held:

        def hold() -> None:
            folder.make()
            held.callback(folder.remove_if_empty)  # once the lock is released
            checks.append(held.enter_context(only_writer(folder.path)))

        distributed.on_main(hold)
        try:
            yield checks[0] if checks else lambda: None
        except LockLost:
            raise
        except BaseException:
            if distributed.is_main():
                remove_unused_config(folder)
            raise


@dataclass(frozen=True)
class _Session:
    """One process's work on one run."""

    config: RunConfig
    folder: RunFolder
    interruption: Interruption
    check_writer: Callable[[], None]
    callbacks: Sequence[Callback]
    trained: RunFolder | None  # the run whose training this one shares


def _record(session: _Session, prepared: PreparedTask | None) -> dict[str, Any]:
    """Train and measure; returns the record, also of a failure: then with the base's figures if they were measured."""
    from experiments.planning.oom_advice import free_memory, what_would_fit
    from experiments.records.failures import Diverged, RunFailure, failures_are_records
    from experiments.training.accelerator import deterministic_algorithms

    config, folder = session.config, session.folder
    device, attachment = device_of(config), None
    untuned: dict[str, Any] = {}
    free = free_memory(device)
    head = distributed.on_main(lambda: head_of(config, folder, device))  # reads files
    started = time.perf_counter()
    try:
        with (
            contextlib.ExitStack() as precise,
            deterministic_algorithms(config.train.deterministic),
            failures_are_records(folder.path, lambda: what_would_fit(config, free)),
        ):
            prepared = prepared or config.task.prepare(device)
            precise.enter_context(computing_in(prepared, compute_of(config.train)))
            prepared.reserve_positions(config.adapter.positions_taken)  # the base is measured on the same items
            config.for_items(prepared.train_items)  # refuses epochs that do not work before the base is measured
            head["facts"] = prepared.facts
            base = base_evaluation(prepared)
            head["base_evaluation"] = dict(base.measured)
            untuned = {"base_figures": figures_of(config, base)["metrics"]}
            curve = _curve(session, prepared)
            attachment = reserve_and_attach(config, prepared)
            setup = time.perf_counter() - started
            body = _train_and_measure(session, prepared, attachment, base, curve)
        body["seconds"]["setup"] = round(setup, 2)
        return head | {"status": "finished", "reason": None} | body
    except Diverged as failure:
        saved = None if attachment is None else _save_last_checkpoint(session, attachment)
        return head | untuned | {"status": "failed", "reason": f"{failure}; {saved}"}
    except RunFailure as failure:
        return head | untuned | {"status": "failed", "reason": str(failure)}
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


def reserve_and_attach(config: RunConfig, prepared: PreparedTask) -> Attachment:
    """Attach the adapter to the task's backbone, initialised from the run's seed.

    The task's items are those that fit beside this adapter: a shared `prepared` may have served another one before.
    """
    prepared.reserve_positions(config.adapter.positions_taken)
    return attach(config.adapter, prepared.backbone, config.train.seed)


def base_evaluation(prepared: PreparedTask, share: float | None = None) -> Evaluation:
    """The untuned base's figures in the precision of the run, cached, so that a sweep measures them once.

    With `share`, those of this part of the items.
    """
    from tasks.base_evaluation import base_evaluation as stored_or_measured

    return stored_or_measured(prepared, precision_key(prepared), share)


def _train_and_measure(
    session: _Session,
    prepared: PreparedTask,
    attachment: Attachment,
    base: Evaluation,
    curve: QualityCurve | None,
) -> dict[str, Any]:
    from experiments.records.shared_training import load_training
    from experiments.training.memory import peak, reset_peak

    config, folder, device = session.config, session.folder, device_of(session.config)
    if session.trained is None:
        training = _train(session, prepared, attachment, curve)
    else:
        if distributed.is_main():
            print(f"already trained, only the evaluation runs: {session.trained.path}", file=sys.stderr)
        training = load_training(session.trained, folder, attachment)
    adapter_bytes = distributed.on_main(lambda: save_adapter(config, folder, attachment))
    started = time.perf_counter()
    samples = folder.samples if distributed.is_main() else None
    reset_peak(device)
    tuned = prepared.finish(evaluate(config, prepared, attachment, samples), base, samples)
    memory = training.get("memory", {}) | {"evaluation": peak(device, "evaluation", "while evaluating")}
    _check_figures(config, tuned)
    distributed.on_main(lambda: write_items(folder.path / "items.parquet", tuned.items))
    return {
        **figures_of(config, tuned),
        "parameters": parameters_of(prepared, attachment),
        "adapter_bytes": adapter_bytes,
        **training,
        "memory": memory,
        "seconds": training["seconds"] | {"evaluate": round(time.perf_counter() - started, 2)},
        "facts": facts_of(prepared, attachment, tuned),
    }


def _check_figures(config: RunConfig, tuned: Evaluation) -> None:
    """Raise RunFailure if there are figures and none has a finite value."""
    from experiments.records.failures import RunFailure

    undefined = tuned.undefined()
    if undefined and len(undefined) == len(tuned.figures):
        cause = "a lower --train.learning-rate may help"
        if config.adapter.init is not None:
            cause = f"check that the update in '{config.adapter.init}' was trained on this base and is not too large"
        raise RunFailure(f"no figure of the tuned model is a finite number ({', '.join(undefined)}): {cause}")


def _warn_repeated_items(train_items: int | None, settings: ResolvedTrain) -> None:
    per_step = settings.batch_size * settings.gradient_accumulation_steps * settings.num_processes
    if train_items is not None and train_items < per_step and distributed.is_main():
        print(f"{train_items} training items are fewer than the {per_step} of a step: items repeat", file=sys.stderr)


def _curve(session: _Session, prepared: PreparedTask) -> QualityCurve | None:
    """The quality curve of a run that asks for one; evaluates the untuned base on the curve's items."""
    from experiments.training.logs.quality_curve import QualityCurve

    config = session.config
    every, share = config.train.evaluate_every, config.train.evaluate_share
    if every is None:
        return None
    base_part = base_evaluation(prepared, share)

    def measure() -> dict[str, Any]:
        return figures_of(config, prepared.finish(prepared.evaluate_part(share), base_part))["metrics"]

    return QualityCurve(session.folder.path, every, figures_of(config, base_part)["metrics"], measure)


def _train(
    session: _Session, prepared: PreparedTask, attachment: Attachment, curve: QualityCurve | None
) -> dict[str, Any]:
    """Train; returns the record's entries about it. A run of 0 steps has no memory, operations or time per step."""
    from experiments.measure.step_costs import step_costs
    from experiments.training.logs.quality_curve import best_steps
    from experiments.training.loop import Trainer

    settings = session.config.for_items(prepared.train_items)
    if settings.steps == 0:
        return {"seconds": {"train": 0.0}, "training": {"steps": 0}}
    _warn_repeated_items(prepared.train_items, settings)
    trainer = Trainer(
        prepared,
        attachment,
        settings,
        session.folder.path,
        session.interruption,
        session.check_writer,
        session.callbacks,
        curve,
    )
    with fast_matmul(trainer.device):
        trained = trainer.run()
    task = session.config.task
    metric = task.all_metrics()[task.primary_metric]
    steps = distributed.on_main(trainer.log.lines)
    points = [] if curve is None else distributed.on_main(curve.lines)
    seconds = {"train": round(trained.seconds, 2), "step_median": round(trained.step_median, 5)}
    if curve is not None:
        seconds["curve"] = round(trained.curve_seconds, 2)
    return {
        "memory": dict(trained.memory),
        **distributed.on_main(lambda: step_costs(trainer)),
        "seconds": seconds,
        "training": {
            "steps": settings.steps,
            "warmup_steps": settings.warmup_steps,
            "learning_rate_source": session.config.learning_rate_source,
            "final_loss": trained.final_loss,
            "resumed_from": trained.resumed_from,
            "differs": trained.differs,
            "best": best_steps(steps, points, metric.name, metric.better),
        },
    }


def evaluate(
    config: RunConfig, prepared: PreparedTask, attachment: Attachment, samples: Path | None = None
) -> Evaluation:
    """Evaluate the tuned model, with merged weights if the method and the weights can: the same figures, faster."""
    if not config.adapter.mergeable or not merges_exactly(prepared.backbone.model):
        return prepared.evaluate(samples)
    attachment.merge()
    try:
        return prepared.evaluate(samples)
    finally:
        attachment.unmerge()
