"""Measure what one method costs on one task: training steps, inference, switching adapters, bytes sent."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.bounds import LARGEST_COUNT, bounded
from experiments.config import ResolvedTrain, RunConfig, uses_cuda
from experiments.precision import with_stored
from experiments.records.folder import RunFolder
from experiments.training.settings import LARGEST_BATCH

if TYPE_CHECKING:
    from adapters.base import Attachment
    from tasks.base import PreparedTask

COSTS_FILE = "costs.json"  # written to the run folder of its configuration; does not count as a run


@dataclass(frozen=True)
class CostSettings:
    """How costs are measured, the same for every method."""

    steps: int = bounded(20, at_least=1, at_most=LARGEST_COUNT)
    """Training steps to time."""
    rounds: int = bounded(40, at_least=1, at_most=LARGEST_COUNT)
    """Interleaved rounds of each latency comparison."""
    items: int = bounded(1, at_least=1, at_most=LARGEST_BATCH)
    """Items per forward pass when measuring latency."""
    mixed: int = bounded(4, at_least=2, at_most=LARGEST_BATCH)
    """Size of the mixed batch, in which every item uses a different adapter."""
    processes: int = bounded(2, at_least=1, at_most=LARGEST_BATCH)
    """Processes of the run that counts the bytes sent; 1 records the prediction only."""


PHASES = ("training", "latency", "switching", "mixed batch", "communication")


def measure_costs(
    config: RunConfig,
    settings: CostSettings,
    prepared: PreparedTask,
    runs: Path,
    begin: Callable[[str], object] = lambda phase: None,
) -> dict[str, Any]:
    """The cost record of a resolved configuration; `prepared` is its task, whose backbone is restored afterwards.

    `begin` is called with each of PHASES when it begins. Raises AdapterError if the method does not work on the model.
    """
    from experiments.process.device import device_of
    from experiments.records.contents import facts_of, head_of, parameters_of
    from experiments.session import reserve_and_attach

    attachment = reserve_and_attach(config, prepared)
    try:
        record = {
            **head_of(config, RunFolder.of(runs, config), device_of(config)),
            "parameters": parameters_of(prepared, attachment),
            "facts": facts_of(prepared, attachment),
        }
        begin("training")
        record |= _training_costs(config, settings, prepared, attachment)
        record |= _inference_costs(config, settings, prepared, attachment, begin)
    finally:
        attachment.detach()
    begin("communication")
    if settings.processes > 1:
        record["communication"] |= _count_bytes(_on_enough_devices(config, settings.processes), settings.processes)
    return record


def _training_costs(
    config: RunConfig, settings: CostSettings, prepared: PreparedTask, attachment: Attachment
) -> dict[str, Any]:
    """Memory, FLOPs and throughput of a few training steps, and the size of the adapter file that they produce."""
    from experiments.measure.step_costs import step_costs
    from experiments.records.adapter_file import save_adapter
    from experiments.training.loop import Trainer

    train = replace(ResolvedTrain.of_steps(config.train, settings.steps), validation_steps=settings.steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(prepared, attachment, train, Path(folder))
        trained = trainer.run()
        return {
            "memory": dict(trained.memory),
            "adapter_bytes": save_adapter(config, RunFolder(Path(folder)), attachment),
            **step_costs(trainer),
        }


def _inference_costs(
    config: RunConfig,
    settings: CostSettings,
    prepared: PreparedTask,
    attachment: Attachment,
    begin: Callable[[str], object],
) -> dict[str, Any]:
    """Latency and merge error, then the cost of switching between adapters, alone and within a batch."""
    from experiments.measure.latency import measure_inference, measure_mixed_batch, measure_switch
    from experiments.measure.model_input import ModelInput

    one, batch = (ModelInput.of(prepared, items) for items in (settings.items, settings.mixed))
    begin("latency")
    inference = measure_inference(attachment, one.forward, settings.items, config.adapter.mergeable, settings.rounds)
    trained = attachment.state()
    states = [_scaled(trained, number) for number in range(settings.mixed)]
    begin("switching")
    switch = measure_switch(attachment, states, -(-settings.rounds // settings.mixed))
    begin("mixed batch")
    mixed = measure_mixed_batch(
        attachment, batch.forward, lambda index: batch.item(index).forward(), states, settings.rounds
    )
    attachment.load(trained)
    return {"inference": asdict(inference), "switch": asdict(switch), "mixed_batch": asdict(mixed)}


def _scaled(state: dict[str, Any], number: int) -> dict[str, Any]:
    """A different adapter with the same shapes and similar values."""
    return {
        name: tensor * (1 + 0.01 * number) if tensor.is_floating_point() else tensor for name, tensor in state.items()
    }


def _on_enough_devices(config: RunConfig, processes: int) -> RunConfig:
    """The configuration, on the CPU in fp32 if there are fewer GPUs than processes: gradients have the same bytes."""
    from experiments.process.device import visible_gpus

    if not uses_cuda(config.train) or len(visible_gpus()) >= processes:
        return config
    train = replace(config.train, device="cpu", mixed_precision="no")
    return replace(config, task=with_stored(config.task, None), train=train)


def _count_bytes(config: RunConfig, processes: int) -> dict[str, Any]:
    """The result of `experiments.measure.communication` with this number of processes, run as a separate program.

    If that fails, the reason is printed, and the record's prediction says that it is one.
    """
    with tempfile.TemporaryDirectory() as folder:
        config_file, result_file = Path(folder) / "config.json", Path(folder) / "result.json"
        two_steps = replace(config, train=replace(config.train, steps=2, epochs=None, validation_steps=2))
        config_file.write_text(json.dumps(two_steps.as_record()))
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        program = ["-m", "experiments.measure.communication", str(config_file), "--output", str(result_file)]
        completed = subprocess.run([*launcher, *program], capture_output=True, text=True)
        if completed.returncode != 0:
            reason = last_error(completed.stderr.splitlines())
            failed = f"counting the bytes sent by {processes} processes failed ({reason})"
            print(f"{failed}: --processes 1 skips the count", file=sys.stderr)
            return {"how": f"predicted: bytes of the trained parameters' gradients; {failed}"}
        return json.loads(result_file.read_text())


def last_error(lines: Iterable[str]) -> str:
    """The last line that names an error, other than the launcher's own."""
    errors = [line.strip() for line in lines if "rror: " in line and "ChildFailedError" not in line]
    return errors[-1] if errors else "no reason given"
