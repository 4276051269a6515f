"""Bytes of gradients that data-parallel training reduces per step: predicted from the parameters, counted in a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from experiments.errors import UsageError
from tasks import distributed

if TYPE_CHECKING:
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    from experiments.training.loop import Trainer

LAUNCH = "torchrun --nproc_per_node 2 -m experiments.measure.communication"


@dataclass(frozen=True)
class Communication:
    """Bytes of gradients that each process contributes to one optimizer step's all-reduce (the loss adds a few more).

    `measured_bytes` is the mean over `steps`, or None if the bytes were only predicted. How many bytes cross the wire
    depends on the algorithm: in a ring of n processes each sends 2 (n - 1) / n times as many (Patarasuk & Yuan 2009).
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


def predicted_bytes(parameters: Iterable[nn.Parameter]) -> int:
    """Bytes of one reduction: the gradient of every trained parameter in its own dtype, 4 bytes per number in fp32."""
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


class ByteCounter:
    """A DDP communication hook that counts the bytes and reduces them as DDP does by default."""

    def __init__(self, module: DistributedDataParallel):
        self.bytes = 0
        module.register_comm_hook(None, self.reduce)

    def reduce(self, state, bucket):  # no annotations: DDP compares them with types, and here they would be strings
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

        self.bytes += bucket.buffer().numel() * bucket.buffer().element_size()
        return allreduce_hook(state, bucket)


def count_gradient_bytes(trainer: Trainer) -> Communication:
    """Train with the ordinary loop and count what each step reduces. Raises UsageError with a single process."""
    import torch

    if distributed.world_size() < 2:
        raise UsageError(f"a single process sends nothing: start at least two, for example `{LAUNCH} METHOD TASK`")
    counter = ByteCounter(trainer.loss_module)
    trainer.run()
    steps = trainer.settings.steps
    return Communication(
        predicted_bytes=predicted_bytes(trainer.owned.values()),
        measured_bytes=counter.bytes / steps,
        steps=steps,
        processes=distributed.world_size(),
        backend=torch.distributed.get_backend(),
    )
