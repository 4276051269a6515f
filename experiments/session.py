"""One run's work: attach an adapter to a task's backbone, train it, measure it, write one record.

`run()` is the whole run as a notebook calls it; `execute()` runs a resolved configuration in a given folder.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import adapters.base
from experiments.config import RunConfig, Train, with_settings
from experiments.device import device_of
from experiments.records.folder import (
    RunFolder,
    environment,
    remove_unfinished,
    replacing,
    write_items,
    write_json,
)
from experiments.records.run_record import RunRecord
from reports.upgrade import SCHEMA
from tasks import distributed
from tasks.base import Task

if TYPE_CHECKING:
    import torch

    from adapters.base import Attachment
    from experiments.training.callbacks import Callback
    from experiments.training.signals import Interruption
    from tasks.base import Evaluation, PreparedTask


def run(
    adapter: adapters.base.Adapter,
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

    `settings` are fields of `Train` (`steps=100`, `seed=1`); `steps=0` measures without training, for example an
    adapter from elsewhere (`Lora(init=FILE)`). A configuration that has finished before is read, not run again,
    unless `overwrite`. `prepared` is a loaded task (`task.prepare(device)`) to share between runs. Raises
    UsageError, AdapterError or TaskError where the settings cannot work. A run that fails while it trains
    (divergence, out of memory) returns a record whose `status` is "failed".
    """
    config = RunConfig(adapter, task, with_settings(train, settings)).resolved()
    folder = distributed.on_main(lambda: RunFolder.create(Path(runs), config))
    record = distributed.on_main(folder.result)
    if record is None or overwrite:
        record = execute(config, folder, prepared, overwrite, callbacks)
    return RunRecord(folder.path, record)


def execute(
    config: RunConfig,
    folder: RunFolder,
    prepared: PreparedTask | None = None,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Run a resolved configuration, from its checkpoint unless `overwrite`, and write and return its record.

    A run that has ended before is not run again. `prepared` shares a loaded task between runs of one process; its
    backbone is given back as it was. Raises UsageError where another process runs it, Interrupted after a signal.
    """
    from experiments.records.run_lock import only_writer
    from experiments.training.loop import deterministic_algorithms
    from experiments.training.signals import Interruption

    writing = only_writer(folder.path) if distributed.is_main() else contextlib.nullcontext(lambda: None)
    with Interruption() as interruption, writing as check_writer:
        record = distributed.on_main(lambda: _existing(folder, overwrite))
        if record is None:
            reserved = folder.reserve() if distributed.is_main() else contextlib.nullcontext()
            with reserved, deterministic_algorithms(config.train.deterministic):
                record = _record(_Session(config, folder, interruption, check_writer, callbacks), prepared)
            if distributed.is_main():
                check_writer()
                write_json(folder.result_file, record)
        if distributed.is_main() and record["status"] == "finished":
            shutil.rmtree(folder.checkpoint, ignore_errors=True)
    return record


def _existing(folder: RunFolder, overwrite: bool) -> dict[str, Any] | None:
    """The record of a run that has ended before; else None, with the folder ready to resume or to start."""
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
    """Train and measure; whatever becomes of it, as a record."""
    from experiments.records.failures import Diverged, RunFailure, failures_are_records
    from experiments.records.oom_advice import room, what_would_fit

    config, folder = session.config, session.folder
    device, attachment = device_of(config), None
    free = room(device)
    head = head_of(config, folder, device)
    began = time.perf_counter()
    try:
        with failures_are_records(folder.path, lambda: what_would_fit(config, free)):
            prepared = prepared or config.task.prepare(device)
            head["facts"] = prepared.facts
            base = base_evaluation(prepared)
            attachment = attach(config, prepared)
            setup = time.perf_counter() - began
            body = _train_and_measure(session, prepared, attachment, base)
        body["seconds"]["setup"] = round(setup, 2)
        return head | {"status": "finished", "reason": None} | body
    except Diverged as failure:
        kept = None if attachment is None else _keep_last_good(session, attachment)
        return head | {"status": "failed", "reason": f"{failure}; {kept}"}
    except RunFailure as failure:
        return head | {"status": "failed", "reason": str(failure)}
    finally:
        if attachment is not None:
            attachment.detach()


def _keep_last_good(session: _Session, attachment: Attachment) -> str:
    """After divergence: the weights of the last checkpoint become the adapter file; what was kept, in words."""
    from experiments.training.checkpoint import load_parameters

    folder = session.folder
    step = load_parameters(folder.checkpoint, attachment.parameters())
    if step is None:
        return "there was no checkpoint yet whose weights could be kept"
    distributed.on_main(lambda: save_adapter(session.config, folder, attachment))
    if distributed.is_main():
        shutil.rmtree(folder.checkpoint)  # going on from it would diverge again
    return f"the weights of step {step} are kept in {folder.adapter_file.name}"


def attach(config: RunConfig, prepared: PreparedTask) -> Attachment:
    """The adapter on the task's backbone, its initialisation drawn from the run's seed."""
    from accelerate.utils import set_seed

    set_seed(config.train.seed)  # Python's and numpy's generators too: a method from elsewhere may draw from them
    return adapters.base.attach(config.adapter, prepared.backbone)


def base_evaluation(prepared: PreparedTask) -> Evaluation:
    """The untuned base, measured the same way; kept by content, so that a sweep measures it once."""
    from tasks.base import Evaluation, Figure
    from tasks.cache import cached

    def compute():
        if distributed.is_main():
            print("measuring the untuned base (once for these settings)", file=sys.stderr)
        found = prepared.evaluate()
        figures = {name: figure.as_record() for name, figure in found.figures.items()}
        return found.artifacts, {"figures": figures, "items": found.items}

    artifacts, value = cached("base-evaluation", prepared.evaluation_key, compute)
    figures = {name: Figure(**record) for name, record in value["figures"].items()}
    return Evaluation(figures, value["items"], artifacts)


def head_of(config: RunConfig, folder: RunFolder, device: torch.device) -> dict[str, Any]:
    """What is known of a run before it trains."""
    size_field = config.adapter.size_field
    size = None if size_field is None else getattr(config.adapter, size_field)
    return {
        "schema": SCHEMA,
        "source": "run",
        "task": config.task.name,
        "method": config.adapter.label,
        "fingerprint": folder.path.name,
        "seed": config.train.seed,
        "size": None if size is None else {"field": size_field, "value": size},
        "primary_metric": config.task.primary_metric,
        "config": config.as_record(),
        **environment(str(device)),
    }


def _train_and_measure(
    session: _Session, prepared: PreparedTask, attachment: Attachment, base: Evaluation
) -> dict[str, Any]:
    config, folder = session.config, session.folder
    training = _train(session, prepared, attachment)
    adapter_bytes = distributed.on_main(lambda: save_adapter(config, folder, attachment))
    began = time.perf_counter()
    tuned = measure(config, prepared, attachment, folder)
    tuned = prepared.finish(tuned, base, folder.samples if distributed.is_main() else None)
    distributed.on_main(lambda: write_items(folder.path / "items.parquet", tuned.items))
    wanted = config.task.primary_metric
    return {
        "primary_metric": wanted if wanted in tuned.figures else next(iter(tuned.figures)),
        "metrics": {name: f.as_record() | _direction(config, name) for name, f in tuned.figures.items()},
        "parameters": parameters_of(prepared, attachment),
        "adapter_bytes": adapter_bytes,
        **training,
        "seconds": training["seconds"] | {"evaluate": round(time.perf_counter() - began, 2)},
        "facts": facts_of(prepared, attachment),
    }


def _train(session: _Session, prepared: PreparedTask, attachment: Attachment) -> dict[str, Any]:
    """Train, and what the record says of it; without steps there is nothing to say."""
    from experiments.measure.step_costs import step_costs
    from experiments.training.loop import Trainer

    config = session.config
    if config.train.steps == 0:
        return {"seconds": {"train": 0.0}, "training": {"steps": 0}}
    trainer = Trainer(
        prepared,
        attachment,
        config.train,
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


def measure(config: RunConfig, prepared: PreparedTask, attachment: Attachment, folder: RunFolder) -> Evaluation:
    """The tuned model's evaluation; merged where the method can, which gives the same figures faster."""
    output = folder.samples if distributed.is_main() else None
    if not config.adapter.mergeable:
        return prepared.evaluate(output)
    attachment.merge()
    try:
        return prepared.evaluate(output)
    finally:
        attachment.unmerge()


def adapter_metadata(config: RunConfig) -> dict[str, str]:
    """What `adapter.safetensors` says of itself: the method and its settings."""
    return {"adapter": json.dumps(config.as_record()["adapter"])}


def save_adapter(config: RunConfig, folder: RunFolder, attachment: Attachment) -> int:
    """Write `adapter.safetensors` and the forms of other tools; the bytes of our own file."""
    from safetensors.torch import save_file

    from adapters.interchange.exported_file import write

    state = attachment.state()
    with replacing(folder.adapter_file, sum(tensor.nbytes for tensor in state.values())) as beside:
        save_file(state, beside, metadata=adapter_metadata(config))
    write(attachment.export(), folder.path)
    return folder.adapter_file.stat().st_size


def _direction(config: RunConfig, name: str) -> dict[str, str]:
    metric = asdict(config.task.metrics[name])
    return {"better": metric["better"], "meaning": metric["meaning"]}


def parameters_of(prepared: PreparedTask, attachment: Attachment) -> dict[str, int]:
    owned = attachment.parameters()
    own = {id(parameter) for parameter in owned.values()}
    frozen = sum(p.numel() for p in prepared.backbone.model.parameters() if id(p) not in own)
    trainable = sum(parameter.numel() for parameter in owned.values())
    return {"trainable": trainable, "total": frozen + trainable}


def facts_of(prepared: PreparedTask, attachment: Attachment) -> dict[str, Any]:
    """What the task and the method say; a method that takes no positions leaves the model's to the input."""
    return prepared.facts | {"positions_left": prepared.backbone.positions} | attachment.facts
