"""The smallest task that trains: a tiny random GPT-2 on tokens drawn from (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.base import Evaluation, PreparedTask
from tasks.language.backbone import CausalLanguageModel
from tests.contract import tiny


class TinyText(PreparedTask):
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.backbone = CausalLanguageModel(tiny.gpt2())
        self.facts: dict[str, Any] = {}

    def batches(self, seed: int, start: int, size: int) -> Iterator[Tensor]:
        step = start
        while True:
            yield torch.randint(64, (size, 12), generator=torch.Generator().manual_seed(1000 * seed + step))
            step += 1

    def loss(self, batch: Tensor) -> Tensor:
        logits = self.backbone.model(input_ids=batch, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())

    def validation_loss(self) -> float:
        return 0.0

    def evaluate(self, output: Path | None = None) -> Evaluation:
        return Evaluation({})

    @property
    def evaluation_key(self) -> Any:
        return "tiny"
