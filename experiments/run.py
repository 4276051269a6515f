"""One run: attach one adapter to one task's backbone, train it, measure it, write one record."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base import attach_initialised
from experiments.config import RunConfig, command, parse
from experiments.records.folder import (
    SCHEMA,
    RunFolder,
    environment,
    remove_unfinished,
    replacing,
    write_items,
    write_json,
)
from tasks import distributed

if TYPE_CHECKING:
    import torch

    from adapters.base import Attachment
    from experiments.training.loop import Trained
    from experiments.training.signals import Interruption
    from tasks.base import Evaluation, PreparedTask


@dataclass(frozen=True)
class RunOptions:
    """Train one adapter on one task, measure it and write one record.

    For example: python -m experiments.run lora sd-pokemon --adapter.rank 8 --train.seed 1
    """

    runs: Path = Path("runs")
    """Folder that the records go to."""
    again: bool = False
    """Run even if this configuration has finished before; the old record is replaced."""


def main() -> None:
    config, options = parse(RunOptions, sys.argv[1:], "python -m experiments.run")
    asked, config = config, config.resolved()
    if distributed.started() > 1:
        distributed.join(on_cpu=device_of(config).type == "cpu")
    folder = distributed.on_main(lambda: RunFolder.create(options.runs, config))
    finished = distributed.on_main(folder.result)
    if finished is not None and not options.again:
        record = finished
        if distributed.is_main():
            print(f"this configuration has run before (--again runs it anew): {folder.path}")
    else:
        _say_what_the_cpu_takes(asked, config)
        record = execute(config, folder, again=options.again)
    if distributed.is_main():
        from experiments.records.summary import show

        show(record, folder.path)
    distributed.leave()
    if record["status"] != "finished":
        raise SystemExit(1)


def _say_what_the_cpu_takes(asked: RunConfig, config: RunConfig) -> None:
    """One line where the task was made smaller, because the run is not on a GPU."""
    before, after = (asdict(one.task) for one in (asked, config))
    less = [f"--task.{name.replace('_', '-')} {after[name]}" for name in after if after[name] != before[name]]
    if less and distributed.is_main():
        print(f"on a CPU, where you gave none: {' '.join(less)}", file=sys.stderr)


def execute(
    config: RunConfig, folder: RunFolder, prepared: PreparedTask | None = None, again: bool = False
) -> dict[str, Any]:
    """Run a resolved configuration, from its checkpoint unless `again`, and write its record; the record.

    A run that has ended before is not run again. `prepared` shares a loaded task between runs of one process; its
    backbone is given back as it was. Raises UsageError where another process runs it, Interrupted after a signal.
    """
    from experiments.records.run_lock import only_writer
    from experiments.training.loop import deterministic_algorithms
    from experiments.training.signals import Interruption

    writing = only_writer(folder.path) if distributed.is_main() else contextlib.nullcontext(lambda: None)
    with Interruption() as interruption, writing as check_writer:
        record = distributed.on_main(lambda: _begun(folder, again))
        if record is None:
            reserved = folder.reserve() if distributed.is_main() else contextlib.nullcontext()
            with reserved, deterministic_algorithms(config.train.deterministic):
                record = _record(_Session(config, folder, interruption, check_writer), prepared)
            if distributed.is_main():
                check_writer()
                write_json(folder.result_file, record)
        if distributed.is_main() and record["status"] == "finished":
            shutil.rmtree(folder.checkpoint, ignore_errors=True)
    return record


def _begun(folder: RunFolder, again: bool) -> dict[str, Any] | None:
    """The record of a run that has ended before; else the folder is made ready to go on, or to begin anew."""
    if again:
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


def device_of(config: RunConfig) -> torch.device:
    import torch

    wanted = config.train.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and distributed.started() > 1:
        return torch.device(wanted, int(os.environ["LOCAL_RANK"]))
    return torch.device(wanted)


def attach(config: RunConfig, prepared: PreparedTask) -> Attachment:
    """The adapter on the task's backbone, its initialisation drawn from the run's seed."""
    from accelerate.utils import set_seed

    set_seed(config.train.seed)  # Python's and numpy's generators too: a method from elsewhere may draw from them
    return attach_initialised(config.adapter, prepared.backbone)


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
        "method": config.adapter.known_as,
        "fingerprint": folder.path.name,
        "seed": config.train.seed,
        "size": None if size is None else {"field": size_field, "value": size},
        "headline": config.task.headline,
        "config": config.as_record(),
        **environment(str(device)),
    }


def _train_and_measure(
    session: _Session, prepared: PreparedTask, attachment: Attachment, base: Evaluation
) -> dict[str, Any]:
    from experiments.measure.step_costs import step_costs
    from experiments.training.loop import Trainer

    config, folder = session.config, session.folder
    trainer = Trainer(prepared, attachment, config.train, folder.path, session.interruption, session.check_writer)
    trained = trainer.run()
    adapter_bytes = distributed.on_main(lambda: save_adapter(config, folder, attachment))
    costs = distributed.on_main(lambda: step_costs(trainer))
    began = time.perf_counter()
    tuned = measure(config, prepared, attachment, folder)
    tuned = prepared.finish(tuned, base, folder.samples if distributed.is_main() else None)
    distributed.on_main(lambda: write_items(folder.path / "items.parquet", tuned.items))
    wanted = config.task.headline
    return {
        "headline": wanted if wanted in tuned.figures else next(iter(tuned.figures)),
        "metrics": {name: f.as_record() | _direction(config, name) for name, f in tuned.figures.items()},
        "parameters": parameters_of(prepared, attachment),
        "adapter_bytes": adapter_bytes,
        "seconds": _seconds(trained, time.perf_counter() - began),
        "memory": dict(trained.memory),
        **costs,
        "training": {
            "steps": trainer.steps,
            "final_loss": trained.final_loss,
            "resumed_from": trained.resumed_from,
            "differs": trained.differs,
        },
        "facts": facts_of(prepared, attachment),
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

    state = attachment.state()
    with replacing(folder.adapter_file, sum(tensor.nbytes for tensor in state.values())) as beside:
        save_file(state, beside, metadata=adapter_metadata(config))
    attachment.export(folder.path)
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


def _seconds(trained: Trained, evaluate: float) -> dict[str, float]:
    return {
        "train": round(trained.seconds, 2),
        "evaluate": round(evaluate, 2),
        "step_median": round(trained.step_median, 5),
    }


if __name__ == "__main__":
    command(main)
