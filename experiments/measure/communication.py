"""Bytes that data parallel training sends: predicted from the trained parameters, and counted in a real run.

    torchrun --nproc_per_node 2 -m experiments.measure.communication lora sd-pokemon --train.steps 3
    torchrun --nproc_per_node 2 -m experiments.measure.communication runs/TASK/METHOD/HASH/config.json [RESULT.json]

(`accelerate launch --cpu` runs one process in silence where mpirun is absent, so the number of processes is checked.)
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cli.errors import command
from experiments.cli.parser import parse
from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.records.folder import write_json
from tasks import distributed

if TYPE_CHECKING:
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    from experiments.training.loop import Trainer

PROGRAM = "torchrun --nproc_per_node 2 -m experiments.measure.communication"


@dataclass(frozen=True)
class CommunicationOptions:
    """Train a few steps in several processes and count the bytes of gradients that each step reduces.

    For example: torchrun --nproc_per_node 2 -m experiments.measure.communication lora sd-pokemon --train.steps 3
    """

    out: Path | None = None
    """A file for the result, as JSON."""


@dataclass(frozen=True)
class Communication:
    """Bytes of gradients that each process gives to the reduction of one optimizer step (the loss is a few more).

    `measured_bytes` is a mean over `steps`; None where the bytes were predicted alone. How many bytes cross a wire
    depends on the algorithm: a ring of n processes sends 2 (n - 1) / n of them from each (Patarasuk & Yuan 2009).
    """

    predicted_bytes: int
    measured_bytes: float | None = None
    steps: int | None = None
    processes: int | None = None
    backend: str | None = None

    def as_record(self) -> dict[str, Any]:
        how = "predicted: bytes of the trained parameters' gradients"
        if self.measured_bytes is not None:
            how = f"counted by a communication hook, {self.processes} processes, {self.backend}, {self.steps} steps"
        return {name: value for name, value in asdict(self).items() if value is not None} | {"how": how}


def predicted_bytes(trained: Iterable[nn.Parameter]) -> int:
    """Of one reduction: every trained parameter's gradient in its own format, 4 bytes each in fp32."""
    return sum(parameter.numel() * parameter.element_size() for parameter in trained)


class ReducedBytes:
    """A communication hook that reduces as usual and counts."""

    def __init__(self, module: DistributedDataParallel):
        self.bytes = 0
        module.register_comm_hook(None, self.reduce)

    def reduce(self, state, bucket):  # not annotated: DDP compares annotations with the types, and these are text
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

        self.bytes += bucket.buffer().numel() * bucket.buffer().element_size()
        return allreduce_hook(state, bucket)


def count(trainer: Trainer) -> Communication:
    """Train with the testbed's own loop and count. Raises UsageError where one process trains alone."""
    import torch

    if distributed.world_size() < 2:
        raise UsageError(f"one process sends nothing: expected at least two; start this with `{PROGRAM} METHOD TASK`")
    counter = ReducedBytes(trainer.loss_module)
    trainer.run()
    predicted, backend = predicted_bytes(trainer.owned.values()), torch.distributed.get_backend()
    return Communication(
        predicted, counter.bytes / trainer.settings.steps, trainer.settings.steps, distributed.world_size(), backend
    )


def main() -> None:
    arguments = sys.argv[1:]
    if arguments and arguments[0].endswith(".json"):
        config, out = configuration(Path(arguments[0])), Path(arguments[1]) if arguments[1:] else None
    else:
        config, options = parse(CommunicationOptions, arguments, PROGRAM)
        out = options.out
    found = measured(config.resolved())
    if distributed.is_main():
        print(
            f"{config.adapter.name} on {config.task.name}: {found.measured_bytes:,.0f} bytes a step and process "
            f"({found.processes} processes, {found.backend}), predicted {found.predicted_bytes:,}"
        )
        if out is not None:
            write_json(out, found.as_record())
    distributed.leave()


def configuration(file: Path) -> RunConfig:
    """Of a run's `config.json`, however many processes it was run with."""
    record = json.loads(file.read_text())
    record["train"] |= {"processes": 1}
    return RunConfig.from_record(record)


def measured(config: RunConfig) -> Communication:
    """Count a training of this configuration in the processes that torchrun started; it leaves no run behind."""
    from experiments.session import attach, device_of
    from experiments.training.loop import Trainer

    device = device_of(config)
    if distributed.started() > 1:
        distributed.join(on_cpu=device.type == "cpu")
    prepared = config.task.prepare(device)
    attachment = attach(config, prepared)
    with tempfile.TemporaryDirectory() as folder:
        return count(Trainer(prepared, attachment, config.train, Path(folder)))


if __name__ == "__main__":
    command(main)
