"""The batches of each step: a process's share, their weights in the loss, and those of the next steps in advance."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Tensor

from experiments.training.settings import ResolvedTrain
from tasks import distributed
from tasks.base import PreparedTask

STEPS_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class StepBatches:
    """One process's batches of a step, and the size of each in the mean loss (`PreparedTask.weight`)."""

    batches: list[Any]
    sizes: list[float]


class BatchSource:
    """Draws the batches of a step, and on a GPU those of the coming steps in a thread, while it computes.

    Everything random in a batch comes from (seed, position), so that it does not matter when it is drawn.
    """

    def __init__(self, prepared: PreparedTask, settings: ResolvedTrain, device: torch.device):
        self.prepared, self.settings, self.device = prepared, settings, device
        self.one_size = type(prepared).weight is PreparedTask.weight
        self.threaded = device.type != "cpu"  # which has no time to spare
        self.executor: ThreadPoolExecutor | None = None
        self.coming: dict[int, Future[StepBatches]] = {}

    @contextlib.contextmanager
    def in_advance(self) -> Iterator[None]:
        """A context in which batches are drawn in advance."""
        if not self.threaded:
            yield
            return
        with ThreadPoolExecutor(1, "batches", self._start_thread) as self.executor:
            try:
                yield
            finally:
                for future in self.coming.values():
                    future.cancel()
        self.executor, self.coming = None, {}

    def _start_thread(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # each thread has its own

    def of(self, step: int) -> StepBatches:
        """This process's batches of optimizer step `step` (from 0), on the device."""
        future = self.coming.pop(step, None)
        drawn = self.draw(step) if future is None else future.result()
        if self.executor is not None:
            for later in range(step + 1, min(step + 1 + STEPS_AHEAD, self.settings.steps)):
                if later not in self.coming:
                    self.coming[later] = self.executor.submit(self.draw, later)
        if not self.threaded:
            return drawn
        return StepBatches([mapped(batch, self._to_device) for batch in drawn.batches], drawn.sizes)

    def settle(self) -> None:
        """Wait for the thread, before the caller uses what drawing batches uses: the frozen parts of a model."""
        wait(self.coming.values())

    def draw(self, step: int) -> StepBatches:
        """Of n processes, each takes every n-th of the step's batches."""
        settings = self.settings
        whole = settings.gradient_accumulation_steps * distributed.world_size()
        own = range(step * whole + distributed.rank(), (step + 1) * whole, distributed.world_size())
        batches = [next(self.prepared.batches(settings.seed, index, settings.batch_size)) for index in own]
        sizes = [self.prepared.weight(batch) for batch in batches]
        if self.device.type == "cuda":
            batches = [mapped(batch, _pinned) for batch in batches]
        return StepBatches(batches, sizes)

    def weights(self, drawn: StepBatches, reduce: Callable[[Tensor], Any]) -> list[Any]:
        """The weight of each batch in the mean over the step's batches; all are 1 if they have the same size.

        `reduce` sums over processes.
        """
        if self.one_size:
            return [1.0] * len(drawn.sizes)
        total: Any = float(sum(drawn.sizes))
        if distributed.world_size() > 1:
            total = reduce(torch.tensor(total, dtype=torch.float64, device=self.device))
        count = len(drawn.sizes) * distributed.world_size()
        weights = [size * count / total for size in drawn.sizes]
        return [weight.float() if isinstance(weight, Tensor) else weight for weight in weights]

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)


def _pinned(tensor: Tensor) -> Tensor:
    return tensor.pin_memory() if tensor.device.type == "cpu" else tensor


def mapped(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A batch of any structure with every tensor changed; what is not known to hold tensors stays as it is."""
    if isinstance(batch, Tensor):
        return change(batch)
    if dataclasses.is_dataclass(batch):
        names = [field.name for field in dataclasses.fields(batch) if field.init]
        instance: Any = batch
        return dataclasses.replace(instance, **{name: mapped(getattr(batch, name), change) for name in names})
    if isinstance(batch, dict):
        return {key: mapped(inner, change) for key, inner in batch.items()}
    if isinstance(batch, (list, tuple)) and not hasattr(batch, "_fields"):
        return type(batch)(mapped(inner, change) for inner in batch)
    return batch
