"""A task whose real runs take milliseconds: a tiny GPT-2 is fitted to fixed numbers."""

import copy
from dataclasses import dataclass

import torch

from tasks.base import Evaluation, Figure, Metric, PreparedTask, Task, declare
from tests.contract.tiny import built, loss


@dataclass(frozen=True)
class TinyRegression(Task, name="tiny-regression"):
    """Fit a tiny GPT-2's output to fixed numbers."""

    metrics = declare(Metric("error", "lower", "squared", "distance to the numbers"))
    primary_metric = "error"

    worse_when_tuned: bool = False
    kind: str = "gpt2"
    """Which tiny model."""

    def prepare(self, device):
        return PreparedRegression(self)


class PreparedRegression(PreparedTask):
    def __init__(self, task):
        self.task, self.backbone, self.facts = task, copy.deepcopy(built(task.kind)), {}

    def batches(self, seed, start, size):
        while True:
            yield None

    def loss(self, batch):
        return loss(self.backbone)

    def validation_loss(self):
        with torch.no_grad():
            return float(loss(self.backbone))

    def evaluate(self, output=None):
        error = self.validation_loss()
        error = 10 - error if self.task.worse_when_tuned else error
        return Evaluation({"error": Figure(error, "squared", 1, "exact")}, [{"item": 0, "error": error}])

    @property
    def evaluation_key(self):
        return repr(self.task)
