"""Full fine-tuning of a prepared task's model in a few lines, for tests of its loss and its figures."""

import torch

from tasks.base import PreparedTask


def train_fully(prepared: PreparedTask, steps: int, batch_size: int, learning_rate: float) -> None:
    model = prepared.backbone.model.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    batches = prepared.batches(0, 0, batch_size)
    for _ in range(steps):
        prepared.loss(next(batches)).backward()
        optimizer.step()
        optimizer.zero_grad()
