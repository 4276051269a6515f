"""A task from another package: a tiny language model learns to count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.base import Evaluation, Metric, PreparedTask, Task, declare

if TYPE_CHECKING:
    import torch

SYMBOLS = 16
LOSS = Metric("loss", "lower", "nats", "loss on one sequence per first number")


@dataclass(frozen=True)
class Counting(Task, name="counting"):
    """A tiny random GPT-2 learns that 4 follows 3."""

    metrics = declare(LOSS)
    primary_metric = LOSS.name

    length: int = 6
    """Numbers per sequence."""

    def prepare(self, device: torch.device) -> PreparedCounting:
        return PreparedCounting(self, device)


class PreparedCounting(PreparedTask):
    def __init__(self, task: Counting, device: torch.device):
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        from tasks.language.model.backbone import CausalLanguageModel

        torch.manual_seed(0)
        sizes: Any = {"vocab_size": SYMBOLS, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
        model: Any = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
        self.backbone = CausalLanguageModel(model.to(device).eval())
        self.task, self.device, self.facts, self.train_items = task, device, {}, SYMBOLS

    def batches(self, seed, start, size):
        import torch

        position = start * size
        while True:
            first = torch.arange(position, position + size)[:, None] + seed
            yield ((first + torch.arange(self.task.length)) % SYMBOLS).to(self.device)
            position += size

    def loss(self, batch):
        return self.backbone.model(input_ids=batch, labels=batch).loss

    def validation_loss(self):
        import torch

        with torch.no_grad():
            return self.loss(next(self.batches(7, 0, SYMBOLS))).item()

    def evaluate(self, output=None):
        loss = self.validation_loss()
        return Evaluation({LOSS.name: LOSS.figure(loss, SYMBOLS, "the model itself")}, [{"item": 0, "loss": loss}])

    @property
    def evaluation_key(self):
        return [self.task.length, LOSS.implementation()]
