"""A batch size that tells which tensors of a step grow with the batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from tasks.base import MetaModel

PRIMES = (61, 59, 53, 47, 43, 41, 37, 31)  # below 64, from which on diffusers copies a UNet's activations


def unused_prime(meta_model: MetaModel) -> int:
    """A prime that divides no dimension of the model's weights or of a batch of one item.

    The size of a tensor of a step with so many items is a multiple of it exactly if the batch is one of its dimensions.
    """
    tensors = [*meta_model.backbone.model.parameters(), *_tensors(meta_model.batch(1, torch.device("meta")))]
    dimensions = {dimension for tensor in tensors for dimension in tensor.shape}
    free = (prime for prime in PRIMES if all(dimension % prime for dimension in dimensions))
    return next(free, PRIMES[0])


def _tensors(batch: Any) -> Iterator[torch.Tensor]:
    """The tensors in a batch: a tensor, a mapping or an object with tensors as attributes."""
    if isinstance(batch, torch.Tensor):
        yield batch
        return
    parts = batch.values() if isinstance(batch, dict) else getattr(batch, "__dict__", {}).values()
    for part in parts:
        yield from _tensors(part)
