"""Bytes that data parallel training sends: predicted from the trained parameters, and counted in a real run.

    torchrun --nproc_per_node 2 -m experiments.measure.communication lora sd-pokemon --train.steps 3

(`accelerate launch --cpu` runs one process in silence where mpirun is absent, so the number of processes is checked.)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import UsageError, command, parse

if TYPE_CHECKING:
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class CommunicationOptions:
    """Train a few steps in several processes and count the bytes of gradients that each step reduces.

    For example: torchrun --nproc_per_node 2 -m experiments.measure.communication lora sd-pokemon --train.steps 3
    """

    out: Path | None = None
    """A file for the result, as JSON."""


@dataclass(frozen=True)
class Communication:
    """Bytes of gradients that each process gives to the reduction of one optimizer step.

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


def processes() -> int:
    """How many processes train together. Raises UsageError for one alone, which sends nothing."""
    from torch import distributed

    size = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    if size < 2:
        raise UsageError(
            "one process sends nothing: expected at least two; start this with "
            "`torchrun --nproc_per_node 2 -m experiments.measure.communication METHOD TASK`"
        )
    return size


def count(trainer: Any) -> Communication:
    """Train with the testbed's own loop and count. Raises UsageError where there is one process alone."""
    import torch

    world, backend = processes(), torch.distributed.get_backend()
    counter = ReducedBytes(trainer.loss_module)
    trainer.run()  # at its end there is no process group any more
    predicted = predicted_bytes(trainer.owned.values())
    return Communication(predicted, counter.bytes / trainer.steps, trainer.steps, world, backend)


def main() -> None:
    import tempfile

    from experiments.record import write_json
    from experiments.run import attach, device_of
    from experiments.train import Trainer

    config, options = parse(CommunicationOptions, sys.argv[1:], "python -m experiments.measure.communication")
    config = config.resolved()
    prepared = config.task.prepare(device_of(config))
    attachment = attach(config, prepared)
    with tempfile.TemporaryDirectory() as folder:  # of each process: a measurement leaves no run behind
        trainer = Trainer(prepared, attachment, config.train, Path(folder))
        found = count(trainer)
        if trainer.accelerator.is_main_process:
            print(
                f"{config.adapter.name} on {config.task.name}: {found.measured_bytes:,.0f} bytes a step "
                f"({found.processes} processes, {found.backend}), predicted {found.predicted_bytes:,}"
            )
            if options.out is not None:
                write_json(options.out, found.as_record())


if __name__ == "__main__":
    command(main)
